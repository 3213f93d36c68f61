"""The sections of a parameter file: how runs train, how they are measured, what reports show."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from studylib.losses.schedules import Schedule

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
Backend = Literal["cosine", "snorm", "plda"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainSettings(Section):
    """How a run trains. All lengths are in training crops or in shares of them, never in steps."""

    crops: Annotated[int, Field(ge=0)]
    crop_seconds: Annotated[float, Field(ge=0.5)] = 2.0
    speakers_per_batch: Positive
    utterances_per_speaker: Positive
    max_utterances_per_speaker: Positive = 100
    chunk_crops: Annotated[int, Field(ge=0)] = 0  # embedded at once; 0: the whole batch
    training_speakers: Positive | None = None  # the corpus's first so many; null: all
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float | Schedule = 0.001
    momentum: float = 0.0
    weight_decay: float = 0.0
    # tf32: convolutions in 10 bits on GPUs that have them; bfloat16: the trunk in 8, losses never
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    augmentation: dict[str, Any] | None = None
    initial_weights: str | None = None
    measurements: Annotated[int, Field(ge=0)] = 0
    keep: Literal["last", "best"] = "last"
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    device: str = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    # device: no copies in a step, for all training audio in its memory; auto: on CUDA, if it fits
    audio: Literal["auto", "memory_map", "device"] = "auto"
    pinned_memory: bool = True  # nobody waits for copies to CUDA, for memory that cannot be swapped
    channels_last: bool = True  # 2-D convolutions: 1.2 to 1.4 times faster on a CPU, other rounding
    fused_optimizer: bool | Literal["auto"] = "auto"  # fewer passes, other rounding; auto: on CUDA
    compile: bool = False  # fewer passes over activations, for minutes of compiling and other bits
    deterministic: bool = False  # the same bits every time on a GPU too, for slower kernels

    @model_validator(mode="after")
    def _consistent(self) -> "TrainSettings":
        if self.deterministic and self.compile:
            raise ValueError("deterministic: true needs compile: false, whose kernels vary")
        if self.keep == "best" and not self.measurements:
            raise ValueError("keep: best needs measurements, the number of development EERs taken")
        return self


class EvaluateSettings(Section):
    """How a trained run is measured: paper B's protocol and plain scores unless said otherwise.

    Attributes
    ----------
    trials : list of str
        The first list gives the headline; scores are calibrated on "dev" where it is among them.
    protocol : "crops", "whole" or "windows"
        See protocols.py. `crop_seconds` is the length of a crop or a window, `crops` belongs to the
        first protocol and `hop_seconds` to the last.
    backends : list of "cosine", "snorm" and "plda"
        See scorers.py. The first gives the headline, and the scores that all reports read.
    training_speakers, training_utterances : int
        At most so many training speakers, and utterances of each, make the cohort and fit PLDA.
    cohort_top, plda_dimension : int
        Cohort speakers that count for each side; what LDA keeps. Less where there is less.
    """

    trials: list[str] = Field(default=["test"], min_length=1)
    protocol: Literal["crops", "whole", "windows"] = "crops"
    crops: Positive = 10
    crop_seconds: Annotated[float, Field(ge=0.5)] = 4.0
    hop_seconds: Seconds = 1.0
    backends: list[Backend] = Field(default=["cosine"], min_length=1)
    training_speakers: Annotated[int, Field(ge=2)] = 400
    training_utterances: Annotated[int, Field(ge=2)] = 10
    cohort_top: Annotated[int, Field(ge=2)] = 400
    plda_dimension: Positive = 150
    resamples: Positive = 1000
    device: str = "auto"
    threads: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _each_once(self) -> "EvaluateSettings":
        for key in ("trials", "backends"):
            names = getattr(self, key)
            if len(set(names)) < len(names):
                raise ValueError(f"{key} names one of {', '.join(names)} twice")
        return self


class EmbeddingsSettings(Section):
    """Which runs embeddings.ipynb shows; all where none is named."""

    runs: list[str] | None = None


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
    lengths: list[Seconds] = [0.5, 1, 2, 4, 8]
    snrs: list[float] = [20, 10, 5, 0]
    reverberations: list[Seconds] = [0.3, 0.6, 0.9]
    n_resamples: Annotated[int, Field(ge=2)] = 300


class BatchSizeRuns(Section):
    """Names of runs that batch_size.ipynb compares, by what they have in common."""

    equal_crops: list[str] = []
    equal_steps: list[str] = []
    training_speakers: list[str] = []

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
