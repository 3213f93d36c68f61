"""The settings of one run: its corpus, loss and trunk, and how it trains."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from studylib.files.documents import Name, Section
from studylib.files.numbers import CropSeconds, Device, NotNegative, Positive, Threads
from studylib.losses.schedules import Schedule, value_at

LONGEST_AUGMENTED = 10.0  # seconds of a crop
Chance = Annotated[float, Field(ge=0, le=1)]


def _number_or_schedule(value: Any) -> str | None:
    keys = value.keys() if isinstance(value, Mapping) else set()
    if isinstance(value, Schedule) or {"initial", "final"} <= keys <= KEYS_OF_SCHEDULES:
        return "schedule"
    return "number" if type(value) in (int, float) else None


KEYS_OF_SCHEDULES = {field.name for field in fields(Schedule)}
NumberOrSchedule = Annotated[
    Annotated[float, Tag("number")] | Annotated[Schedule, Tag("schedule")],
    Discriminator(
        _number_or_schedule,
        custom_error_type="number_or_schedule",
        custom_error_message="expected a number, or a schedule such as "
        "{initial: 0.1, final: 0.3, begins: 0, ends: 1, shape: linear}",
    ),
]


class CorpusSettings(Section):
    """Where the utterances come from; they are kept in data/<name>/."""

    name: Name
    source: str
    settings: dict[str, Any] = Field(default={})


class Component(Section):
    """A loss or a trunk by its name, and the keywords its constructor is given."""

    name: str
    parameters: dict[str, Any] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, flat: Any) -> Any:
        if not isinstance(flat, Mapping) or "parameters" in flat:
            return flat
        parameters = {key: value for key, value in flat.items() if key != "name"}
        return {"name": flat.get("name"), "parameters": parameters}


class AugmentationSettings(Section):
    """What is added to training crops. Folders are relative to the project's root.

    Attributes
    ----------
    noise_chance : float
        Share of crops that get noise.
    noise_folder : Path or None
        Recordings of noise, such as MUSAN's (Snyder et al. 2015); None draws coloured noise.
    snr : (float, float)
        Signal-to-noise ratios, dB, between which each crop's is drawn.
    room_chance : float
        Share of crops that get a room.
    room_folder : Path or None
        Room impulse responses (channels are averaged); None draws decaying noise.
    """

    noise_chance: Chance = 1.0
    noise_folder: Path | None = None
    snr: tuple[float, float] = (10.0, 20.0)
    room_chance: Chance = 0.0
    room_folder: Path | None = None


class TrainSettings(Section):
    """How a run trains. All lengths are in training crops or in shares of them, never in steps."""

    crops: NotNegative
    crop_seconds: CropSeconds = 2.0
    speakers_per_batch: Positive
    utterances_per_speaker: Positive
    max_utterances_per_speaker: Positive = 100
    chunk_crops: NotNegative = 0  # embedded at once; 0: the whole batch
    training_speakers: Positive | None = None  # the corpus's first so many; null: all
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: NumberOrSchedule = 0.001
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"  # the trunk's; a loss's is float32
    augmentation: AugmentationSettings | None = None
    initial_weights: str | None = None
    freeze: tuple[str, ...] = ()  # parts of the trunk that keep their weights, such as layers.0
    loss_warmup: Chance = 0.0  # share of the run in which the loss's own weights alone are trained
    measurements: NotNegative = 0
    keep: Literal["last", "best"] = "last"
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    device: Device = "auto"
    threads: Threads = 0
    compile: bool = False  # fewer passes over activations; compiles for minutes, changes bits
    deterministic: bool = False  # same bits every time on a GPU too, by slower kernels

    @model_validator(mode="after")
    def _consistent(self) -> "TrainSettings":
        if self.max_utterances_per_speaker < self.utterances_per_speaker:
            raise ValueError("max_utterances_per_speaker: expected utterances_per_speaker or more")
        if min(value_at(self.learning_rate, progress) for progress in (0.0, 1.0)) < 0:
            raise ValueError("learning_rate: expected 0 or more, initial and final")
        if self.keep == "best" and not self.measurements:
            raise ValueError("keep: best needs measurements, the number of development EERs taken")
        if self.augmentation and self.crop_seconds > LONGEST_AUGMENTED:
            raise ValueError(f"crop_seconds: augmentation takes crops of {LONGEST_AUGMENTED} s")
        return self

    @property
    def batch_crops(self) -> int:
        """B = N * M, the crops of a batch."""
        return self.speakers_per_batch * self.utterances_per_speaker


class RunSettings(Section):
    """Everything that decides the outcome of one run, its seed apart."""

    study: str
    name: str
    corpus: CorpusSettings
    loss: Component
    trunk: Component
    train: TrainSettings
