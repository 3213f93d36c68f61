"""What all real sources are asked alike; each source's own settings add to these."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from studylib.corpora.lists import TrialList
from studylib.corpora.recordings import Recording, table_of
from studylib.corpora.shards import Decoding
from studylib.corpora.splits import Splits
from studylib.errors import StudyError


class PreparationSettings(BaseModel):
    """What all sources share.

    Attributes
    ----------
    storage : str
        packed (all samples in one file) or in_place (the source's files stay where they are and
        are read in part: 16-kHz mono 16-bit wav and flac only). The samples are the same.
    splits : Splits or None
        None: as the source has them.
    trials : mapping of TrialList
        None: all pairs of dev and of test, where they have speakers.
    max_utterances_per_speaker : int or None
        Which files stay is drawn at random.
    pieces_per_utterance : int
        Cut each file into so many utterances: speakers with one file then give target trials.
    session_effects : str or None
        Add a room, a microphone and noise (mild, mid, hard), drawn for each utterance, which then
        is a session of its own.
    minimum_seconds : float
        Shorter utterances are refused.
    keep_going : bool
        Skip what is wrong, and list it, instead of stopping at the first.
    seed : int
        Of all that is drawn here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    # Keys that say where things lie, or what is told: no part of what a corpus is.
    places: ClassVar[frozenset[str]] = frozenset({"trials", "keep_going"})

    storage: Literal["packed", "in_place"] = "packed"
    splits: Splits | None = None
    trials: dict[str, TrialList] | None = None
    max_utterances_per_speaker: int | None = Field(default=None, ge=1)
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

    def table(self, recordings: Iterable[Recording]) -> pd.DataFrame:
        """One row for each utterance that the recordings will give."""
        own_sessions = self.session_effects is not None
        return table_of(recordings, self.pieces_per_utterance, own_sessions)

    def trial_lists(self, recordings: Iterable[Recording]) -> dict[str, TrialList]:
        """The lists asked for, or all pairs of each split that is tested."""
        if self.trials is not None:
            return self.trials
        splits = {row.split for row in recordings} & {"dev", "test"}
        return {split: TrialList(recipe="all_pairs", split=split) for split in sorted(splits)}

    def content(self) -> dict[str, Any]:
        """What is kept with the corpus, and must agree for a corpus to be the same."""
        left_out = dict.fromkeys(self.places, True) | {"splits": {"file": True}}
        return self.model_dump(mode="json", exclude=left_out)

    def decoding(self) -> Decoding:
        return Decoding(
            pieces=self.pieces_per_utterance,
            minimum_seconds=self.minimum_seconds,
            session_effects=self.session_effects,
            in_place=self.storage == "in_place",
            seed=self.seed,
        )


def validated(model: type[BaseModel], settings: BaseModel | Mapping[str, Any], source: str) -> Any:
    """Settings of a source, checked; StudyError names the key that is wrong."""
    if isinstance(settings, model):
        return settings
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = ", ".join(sorted(model.model_fields))
            raise StudyError(f"{source}: unknown key {key!r} (known: {known}).") from None
        message = problem["msg"].removeprefix("Value error, ")
        raise StudyError(f"{source}: {key + ': ' if key else ''}{message}.") from None
