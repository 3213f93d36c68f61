"""What the reports on all runs show: the section `report` of a parameter file."""

from typing import Annotated, Literal

from pydantic import Field

from studylib.files.documents import Positive, Seconds, Section


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
    """Names of runs that batch_size.ipynb compares, by what they have in common."""

    equal_crops: list[str] = Field(default=[])
    equal_steps: list[str] = Field(default=[])
    training_speakers: list[str] = Field(default=[])

    @property
    def names(self) -> set[str]:
        return {*self.equal_crops, *self.equal_steps, *self.training_speakers}

    @property
    def at_other_budgets(self) -> set[str]:
        """Runs that saw another number of crops than others, which no other report may compare."""
        return set(self.equal_steps) - set(self.equal_crops) - set(self.training_speakers)


class ReportSettings(Section):
    """What the reports on all runs show, one section a notebook."""

    embeddings: EmbeddingsSettings = EmbeddingsSettings()
    robustness: RobustnessSettings = RobustnessSettings()
    batch_size: BatchSizeRuns = BatchSizeRuns()
