"""What an embedded corpus consists of, and the sizes that have names."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from studylib.corpora.acoustics import PRESETS
from studylib.errors import StudyError

CLEAN = "clean"  # the preset without session effects


@dataclass(frozen=True)
class EmbeddedSettings:
    """What an embedded corpus consists of.

    Attributes
    ----------
    n_train_speakers, n_dev_speakers, n_test_speakers : int
    train_utterances, dev_utterances, test_utterances : int
        Of each speaker.
    seconds : float
        About how long an utterance is: 0.9 to 1.2 times this.
    utterances_per_session : int
        1: every utterance is its own session.
    preset : str
        How far sessions differ: clean, mild, mid or hard.
    seed : int
    """

    n_train_speakers: int = 350
    train_utterances: int = 12
    n_dev_speakers: int = 50
    dev_utterances: int = 10
    n_test_speakers: int = 50
    test_utterances: int = 10
    seconds: float = 5.0
    utterances_per_session: int = 1
    preset: str = "mid"
    seed: int = 0

    def __post_init__(self):
        if self.preset not in (CLEAN, *PRESETS):
            known = ", ".join((CLEAN, *PRESETS))
            raise StudyError(f"embedded: preset {self.preset!r} is not one of {known}.")
        for name in KEYS - {"preset"}:
            value = getattr(self, name)
            wanted = (int, float) if name == "seconds" else (int,)
            if type(value) not in wanted:
                kind = "number" if name == "seconds" else "whole number"
                raise StudyError(f"embedded: {name} must be a {kind}, not {value!r}.")
            if value < 0 or (value == 0 and name != "seed"):
                limit = "0 or more" if name == "seed" else "positive"
                raise StudyError(f"embedded: {name} must be {limit}, not {value}.")

    def n_speakers(self, split: str) -> int:
        return getattr(self, f"n_{split}_speakers")

    def n_utterances(self, split: str) -> int:
        """Utterances of each speaker of a split."""
        return getattr(self, f"{split}_utterances")


KEYS = {field.name for field in fields(EmbeddedSettings)}

SIZES: dict[str, EmbeddedSettings] = {
    "tests": EmbeddedSettings(32, 6, 16, 6, 16, 6),
    "study": EmbeddedSettings(),
    "gpu": EmbeddedSettings(1_200, 20, 100, 10, 100, 10),
}


def checked_settings(settings: EmbeddedSettings | Mapping[str, Any]) -> EmbeddedSettings:
    """Settings from a mapping; StudyError names a key that does not exist."""
    if isinstance(settings, EmbeddedSettings):
        return settings
    if unknown := set(settings) - KEYS:
        known = ", ".join(sorted(KEYS))
        raise StudyError(f"embedded: unknown key {min(unknown)!r} (known: {known}).")
    return EmbeddedSettings(**settings)
