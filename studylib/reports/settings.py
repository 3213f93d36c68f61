"""The settings of the reports on all runs: the section `report` of a parameter file."""

from typing import Annotated

from pydantic import Field

from studylib.files.documents import Section
from studylib.files.numbers import Positive, Seconds


class EmbeddingsSettings(Section):
    """Which runs embeddings.ipynb shows in the pipeline (None: all)."""

    runs: list[str] | None = None


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


class ReportSettings(Section):
    """The settings of the reports on all runs, one section a notebook."""

    embeddings: EmbeddingsSettings = EmbeddingsSettings()
    robustness: RobustnessSettings = RobustnessSettings()
