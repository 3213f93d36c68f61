"""The settings of the reports on all runs: the section `report` of a parameter file."""

import math
from collections.abc import Mapping
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import Field

from studylib.errors import StudyError
from studylib.files.documents import Section, unknown
from studylib.files.numbers import Positive, Seconds
from studylib.training.settings import RunSettings

# What may differ between two runs of one loss, by the list that names them.
MAY_DIFFER = {
    "equal_crops": {"speakers_per_batch", "learning_rate", "steps"},
    "equal_steps": {"speakers_per_batch", "learning_rate", "crops"},
    "training_speakers": {"training_speakers"},
}


class EmbeddingsSettings(Section):
    """What embeddings.ipynb shows in the pipeline: which runs (None: all), by which kind of map."""

    runs: list[str] | None = None
    method: Literal["pca", "umap", "tsne"] = "umap"


class RobustnessSettings(Section):
    """How robustness.ipynb degrades the test utterances.

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


class ReportSettings(Section):
    """The settings of the reports on all runs, one section a notebook."""

    embeddings: EmbeddingsSettings = EmbeddingsSettings()
    robustness: RobustnessSettings = RobustnessSettings()
    batch_size: BatchSizeRuns = BatchSizeRuns()


def check_batch_size(compared: BatchSizeRuns, runs: Mapping[str, RunSettings]) -> None:
    """Refuse lists of runs that no figure may compare, before anything trains.

    Raises
    ------
    StudyError
        A run that is not among `runs`, the study's; two runs of one loss that differ in something
        else than their list is about; runs of another number of crops or steps.
    """
    for name, names in compared:
        where = f"report.batch_size.{name}"
        for run in names:
            if run not in runs:
                raise StudyError(unknown(f"{where} names the run", run, runs))
        for first, second in combinations(names, 2):
            one, other = _facts(runs[first]), _facts(runs[second])
            differing = {key for key in one if one[key] != other[key]} - MAY_DIFFER[name]
            if one["loss"].name != other["loss"].name:
                differing &= {"crops", "steps"}
            if differing:
                raise StudyError(
                    f"{where}: {first} and {second} differ in {', '.join(sorted(differing))}: runs "
                    f"of one list may differ in {', '.join(sorted(MAY_DIFFER[name]))} or the loss"
                )


def _facts(run: RunSettings) -> dict[str, Any]:
    batch = run.train.speakers_per_batch * run.train.utterances_per_speaker
    steps = {"steps": math.ceil(run.train.crops / batch)}
    return {"loss": run.loss, "trunk": run.trunk} | dict(run.train) | steps
