"""What the reports on all runs show: the section `report` of a parameter file."""

import math
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Annotated, Literal

from pydantic import Field

from studylib.errors import StudyError
from studylib.files.documents import Positive, Seconds, Section, unknown
from studylib.training.settings import RunSettings, TrainSettings

# Keys of `train` in which two runs of one loss may differ, by the list that names them.
_BATCH = {"speakers_per_batch", "learning_rate"}
MAY_DIFFER = {
    "equal_crops": _BATCH,
    "equal_steps": _BATCH | {"crops"},
    "training_speakers": {"training_speakers"},
}
SIZES = {"speakers_per_batch", "training_speakers"}


class EmbeddingsSettings(Section):
    """What embeddings.ipynb shows in the pipeline: which runs (None: all), by which kind of map."""

    runs: list[str] | None = None
    method: Literal["pca", "umap", "tsne"] = "umap"


class RobustnessSettings(Section):
    """What robustness.ipynb does to the test utterances.

    Attributes
    ----------
    runs : list of str or None
        Trained runs; None takes all.
    n_speakers, n_utterances : int
        Of the test split, at most; utterances of each speaker.
    lengths : list of float
        Of crops, s.
    snrs : list of float
        Of added noise, dB.
    reverberations : list of float
        T60 of added rooms, s.
    n_resamples : int
        Of the speakers.
    """

    runs: list[str] | None = None
    n_speakers: Positive = 100
    n_utterances: Annotated[int, Field(ge=2)] = 4
    lengths: list[Seconds] = Field(default=[0.5, 1, 2, 4, 8])
    snrs: list[float] = Field(default=[20, 10, 5, 0])
    reverberations: list[Seconds] = Field(default=[0.3, 0.6, 0.9])
    n_resamples: Annotated[int, Field(ge=2)] = 300


class BatchSizeRuns(Section):
    """Names of runs that batch_size.ipynb compares, by what they have in common.

    Runs of one loss in one list differ in what the list is about, and perhaps in the learning rate
    that fits it (see `check_batch_size`): the figure would otherwise show two things in one.
    """

    equal_crops: list[str] = Field(default=[])
    equal_steps: list[str] = Field(default=[])
    training_speakers: list[str] = Field(default=[])

    @property
    def names(self) -> set[str]:
        return {*self.equal_crops, *self.equal_steps, *self.training_speakers}


class ReportSettings(Section):
    """What the reports on all runs show, one section a notebook."""

    embeddings: EmbeddingsSettings = EmbeddingsSettings()
    robustness: RobustnessSettings = RobustnessSettings()
    batch_size: BatchSizeRuns = BatchSizeRuns()


def check_batch_size(compared: BatchSizeRuns, runs: Mapping[str, RunSettings]) -> None:
    """Refuse lists of runs that no figure may compare, before anything trains.

    Raises
    ------
    StudyError
        A run that is not among `runs`, the study's; two runs of one loss that differ in something
        else than their list is about, or in no size; runs of another number of crops or steps.
    """
    for name, names in compared:
        where = f"report.batch_size.{name}"
        for run in names:
            if run not in runs:
                raise StudyError(unknown(f"{where} names the run", run, runs))
        for first, second in combinations(names, 2):
            if runs[first].loss.name == runs[second].loss.name:
                _check_pair(where, runs[first], runs[second], MAY_DIFFER[name])
    crops = {run: runs[run].train.crops for run in compared.equal_crops}
    steps = {run: _steps(runs[run].train) for run in compared.equal_steps}
    for what, numbers in (("crops", crops), ("steps", steps)):
        if len(set(numbers.values())) > 1:
            shown = ", ".join(f"{run} {number:,}" for run, number in numbers.items())
            raise StudyError(
                f"report.batch_size.equal_{what}: expected runs of equally many {what}, not {shown}"
            )


def _check_pair(where: str, first: RunSettings, second: RunSettings, may: Iterable[str]) -> None:
    differing = {key for key in ("loss", "trunk") if getattr(first, key) != getattr(second, key)}
    others = dict(second.train)
    differing |= {key for key, value in first.train if value != others[key]}
    pair = f"{where}: {first.name} and {second.name}"
    if excess := differing - set(may):
        raise StudyError(
            f"{pair} differ in {', '.join(sorted(excess))}: expected runs of one loss that differ "
            f"in nothing but {' and '.join(sorted(may))}"
        )
    if not differing & SIZES:
        raise StudyError(f"{pair} are of one size: expected each size of a loss once")


def _steps(train: TrainSettings) -> int:
    return math.ceil(train.crops / (train.speakers_per_batch * train.utterances_per_speaker))
