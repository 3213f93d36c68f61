"""The settings that all sources of recordings share; each source's own settings add to these."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from studylib.corpora.recordings import Recording, Splits
from studylib.corpora.report import Report
from studylib.corpora.trials import TrialList
from studylib.files.documents import Name, Section

# What decides the samples of a list of recordings.
DECISIVE = {"storage", "pieces_per_utterance", "session_effects", "minimum_seconds", "seed"}


class PreparationSettings(Section):
    """The settings that all sources share.

    Attributes
    ----------
    storage : str
        packed (all samples in one file) or in_place (the source's files stay where they are and
        are read in part: 16-kHz mono 16-bit wav and flac only). The samples are the same.
    splits : Splits or None
        None: as the source has them.
    trials : mapping of TrialList
        None: all pairs of dev and of test, where they have speakers.
    pieces_per_utterance : int
        Utterances to cut each file into: speakers with one file then have target trials.
    session_effects : str or None
        Add a room, a microphone and noise (mild, mid, hard), drawn for each utterance, which then
        is a session of its own.
    minimum_seconds : float
        Shorter utterances are refused.
    keep_going : bool
        Skip and list unusable recordings instead of stopping at the first.
    seed : int
        Of the session effects.
    """

    storage: Literal["packed", "in_place"] = "packed"
    splits: Splits | None = None
    trials: dict[Name, TrialList] | None = None
    pieces_per_utterance: int = Field(default=1, ge=1)
    session_effects: Literal["mild", "mid", "hard"] | None = None
    minimum_seconds: float = Field(default=0.5, ge=0.05)
    keep_going: bool = False
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _in_place_as_is(self) -> "PreparationSettings":
        if self.storage == "in_place" and (self.pieces_per_utterance > 1 or self.session_effects):
            raise ValueError(
                "storage: in_place keeps files as they are, but pieces_per_utterance and "
                "session_effects need storage: packed"
            )
        return self

    def recordings(self, report: Report) -> tuple[Path, Iterable[Recording]]:
        """The source's folder (absolute), and all recordings below it, in any order."""

    def facts(self) -> dict[str, str]:
        """source, version, licence and population of the corpus (see `hygiene`)."""

    def trial_lists(self, recordings: Iterable[Recording]) -> Mapping[str, TrialList]:
        """The lists asked for, or all pairs of each split that is tested."""
        if self.trials is not None:
            return self.trials
        splits = {row.split for row in recordings} & {"dev", "test"}
        return {split: TrialList(recipe="all_pairs", split=split) for split in sorted(splits)}

    def decisive(self) -> dict[str, Any]:
        """The settings that decide the samples of a list of recordings."""
        return self.model_dump(mode="json", include=DECISIVE)
