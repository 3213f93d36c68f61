"""What an embedded corpus consists of."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from studylib.files.documents import Section

# Upper limits, so that a typing mistake is an error and not an endless run.
Speakers = Annotated[int, Field(ge=1, le=100_000)]
Utterances = Annotated[int, Field(ge=1, le=10_000)]


class EmbeddedSettings(Section):
    """What an embedded corpus consists of.

    Attributes
    ----------
    n_train_speakers, n_dev_speakers, n_test_speakers : int
    train_utterances, dev_utterances, test_utterances : int
        Of each speaker.
    seconds : float
        Utterances last 0.9 to 1.2 times this.
    utterances_per_session : int
        1: every utterance is its own session.
    preset : str
        How far sessions differ: clean (no session effects), mild, mid or hard.
    seed : int
    """

    model_config = ConfigDict(strict=True)  # "6" and 2.5 are no counts

    n_train_speakers: Speakers = 350
    train_utterances: Utterances = 12
    n_dev_speakers: Speakers = 50
    dev_utterances: Utterances = 10
    n_test_speakers: Speakers = 50
    test_utterances: Utterances = 10
    seconds: float = Field(5.0, gt=0, le=600)
    utterances_per_session: int = Field(1, ge=1)
    preset: Literal["clean", "mild", "mid", "hard"] = "mid"
    seed: int = Field(0, ge=0)

    def n_speakers(self, split: str) -> int:
        """Number of speakers of a split."""
        return getattr(self, f"n_{split}_speakers")

    def n_utterances(self, split: str) -> int:
        """Number of utterances of each speaker of a split."""
        return getattr(self, f"{split}_utterances")
