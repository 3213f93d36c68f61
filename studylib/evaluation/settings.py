"""How a trained run is measured: the section `evaluate` of a parameter file."""

from typing import Annotated, Literal

from pydantic import Field

from studylib.files.documents import Name, Section
from studylib.files.numbers import CropSeconds, Device, Positive, Seconds, Threads

Backend = Literal["cosine", "centred", "centred_snorm", "snorm", "plda"]


class EvaluateSettings(Section):
    """How a trained run is measured: by default paper B's protocol and plain scores.

    Attributes
    ----------
    trials : list of str
        The first list gives the headline; scores are calibrated on "dev" where it is among them.
    also : list of str
        Further prepared corpora to measure on, without training speakers of the study's: each on
        its list "test" or, if it has none, on its first.
    protocol : "crops", "whole" or "windows"
        See protocols.py. `crop_seconds` is the length of a crop or a window, `crops` belongs to the
        first protocol and `hop_seconds` to the last.
    backends : list of "cosine", "centred", "centred_snorm", "snorm" and "plda"
        See backends.py. The first gives the headline, and the scores that all reports read.
    training_speakers, training_utterances : int
        Most training speakers, and utterances of each, for the cohort and for fitting PLDA.
    cohort_top, plda_dimension : int
        Highest cohort scores used for each side; dimensions after LDA. Fewer if fewer exist.
    """

    trials: list[Name] = Field(default=["test"], min_length=1)
    also: list[Name] = Field(default=[])
    protocol: Literal["crops", "whole", "windows"] = "crops"
    crops: Positive = 10
    crop_seconds: CropSeconds = 4.0
    hop_seconds: Seconds = 1.0
    backends: list[Backend] = Field(default=["cosine"], min_length=1)
    training_speakers: Annotated[int, Field(ge=2)] = 400
    training_utterances: Annotated[int, Field(ge=2)] = 10
    cohort_top: Annotated[int, Field(ge=2)] = 400
    plda_dimension: Positive = 150
    resamples: Annotated[int, Field(ge=2, le=1_000_000)] = 1000
    device: Device = "auto"
    threads: Threads = 0
