"""Which runs the batch-size report compares: the section `report.batch_size`, checked. ::

    report:
      batch_size:
        equal_crops: [prototypical_batch200, prototypical_batch800]
        equal_steps: [prototypical_batch200, prototypical_batch800_longer]
        training_speakers: [prototypical_speakers100, prototypical_batch200]

Runs of one loss in one list differ in what the list is about and in nothing else: the figure would
otherwise show two things at once. A mistake is told before anything trains.
"""

import math
from itertools import combinations

from studylib.errors import StudyError
from studylib.files.documents import unknown
from studylib.pipeline.params import Params, run_settings
from studylib.reports.settings import BatchSizeRuns
from studylib.training.settings import RunSettings

# What may differ between two runs of one loss. Some scale the learning rate with the batch.
_BATCH = {"train.speakers_per_batch", "train.learning_rate"}
MAY_DIFFER = {
    "equal_crops": _BATCH,
    "equal_steps": _BATCH | {"train.crops"},
    "training_speakers": {"train.training_speakers"},
}


SIZES = {"train.speakers_per_batch", "train.training_speakers"}


def batch_size_runs(params: Params) -> BatchSizeRuns:
    """The section `report.batch_size`; empty lists where a study has none.

    Raises
    ------
    StudyError
        An unknown run, or runs in one list that cannot be compared.
    """
    section = "report.batch_size"
    compared = params.report.batch_size
    for name, runs in compared:
        for run in runs:
            if run not in params.study.runs:
                raise StudyError(
                    unknown(f"{section}.{name} names the run", run, params.study.runs)
                    + ", the study's runs"
                )
        _check(f"{section}.{name}", [run_settings(params, run) for run in runs], MAY_DIFFER[name])
    _check_equal(compared, params)
    return compared


def _check(where: str, runs: list[RunSettings], may_differ: set[str]) -> None:
    for first, second in combinations(runs, 2):
        if first.loss.name != second.loss.name:
            continue
        told = f"{where}: {first.name} and {second.name}"
        differing = _differences(first, second)
        if differing - may_differ:
            raise StudyError(
                f"{told} differ in {', '.join(sorted(differing - may_differ))}: expected runs of "
                f"one loss that differ in nothing but {' and '.join(sorted(may_differ))}"
            )
        if not differing & SIZES:
            raise StudyError(f"{told} are of one size: expected each size of a loss once")


def _differences(first: RunSettings, second: RunSettings) -> set[str]:
    found = {key for key in ("loss", "trunk") if getattr(first, key) != getattr(second, key)}
    others = dict(second.train)
    return found | {f"train.{key}" for key, value in first.train if value != others[key]}


def _check_equal(compared: BatchSizeRuns, params: Params) -> None:
    """The same number of crops, or of steps, for all losses of a list."""
    train = {run: run_settings(params, run).train for run in compared.names}
    batch = {run: t.speakers_per_batch * t.utterances_per_speaker for run, t in train.items()}
    crops = {run: train[run].crops for run in compared.equal_crops}
    steps = {run: math.ceil(train[run].crops / batch[run]) for run in compared.equal_steps}
    for what, numbers in (("crops", crops), ("steps", steps)):
        if len(set(numbers.values())) > 1:
            told = ", ".join(f"{run} {number:,}" for run, number in numbers.items())
            raise StudyError(
                f"report.batch_size.equal_{what}: expected runs of equally many {what}, not {told}"
            )
