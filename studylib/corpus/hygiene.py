"""What keeps an open-set test honest: unseen speakers, and sessions that can be told apart."""

import pandas as pd

from studylib.corpus.lists import TrialList
from studylib.corpus.reader import Corpus
from studylib.corpus.report import Report
from studylib.errors import StudyError


def known_speakers(corpus: Corpus) -> dict:
    """Whom a model trained on this corpus knows; plain values, to be kept with the model.

    Speakers of the development split count too: a model may be chosen by them.

    Returns
    -------
    {"population": str, "speakers": list of str}
        Speakers of one name are the same person only within one population (`voxceleb` for
        VoxCeleb 1 and 2, `librispeech`, one for each folder corpus).
    """
    table = corpus.utterances
    speakers = table.loc[table["split"] != "test", "speaker"].unique()
    return {"population": _population(corpus), "speakers": sorted(speakers)}


def refuse_known_speakers(known: dict, corpus: Corpus, trial_list: str) -> None:
    """Raise StudyError if a model knows speakers of the trial list it is to be tested on.

    So the lists VoxCeleb1-E and -H, which draw on VoxCeleb1's development speakers, are refused
    for a model trained on these.

    Parameters
    ----------
    known : dict
        What `known_speakers` gave for the corpus the model was trained on.
    corpus : Corpus
        Of the test.
    trial_list : str
    """
    if known["population"] != _population(corpus):
        return
    trials = corpus.trials(trial_list)
    rows = pd.unique(trials[["first", "second"]].to_numpy().ravel())
    tested = set(corpus.utterances["speaker"].to_numpy()[rows])
    shared = sorted(tested & set(known["speakers"]))
    if shared:
        raise StudyError(
            f"The model knows {len(shared)} of the {len(tested)} speakers of the trial list "
            f"{trial_list!r} ({', '.join(shared[:3])}{' ...' if len(shared) > 3 else ''}): "
            "it must be tested on speakers that it has never met."
        )


def same_session(corpus: Corpus, trials: pd.DataFrame) -> pd.Series:
    """Which trials compare two utterances of one session (one video, one chapter).

    Such targets are easier: the room and the microphone agree as well as the voice.

    Parameters
    ----------
    trials : DataFrame
        As `corpus.trials(name)` gives them.

    Returns
    -------
    Series of bool, in the order of the trials
    """
    table = corpus.utterances
    session = pd.factorize(table["session"])[0]
    speaker = pd.factorize(table["speaker"])[0]
    first, second = trials["first"].to_numpy(), trials["second"].to_numpy()
    same = (session[first] == session[second]) & (speaker[first] == speaker[second])
    return pd.Series(same, index=trials.index, name="same_session")


def lonely_speakers(
    utterances: pd.DataFrame, lists: dict[str, TrialList], report: Report
) -> list[str]:
    """Speakers with one utterance in a split that a recipe makes trials of: reported, left out."""
    splits = {trial_list.split for trial_list in lists.values() if trial_list.recipe}
    tested = utterances[utterances["split"].isin(splits)]
    counts = tested["speaker"].value_counts()
    lonely = sorted(counts.index[counts < 2])
    for speaker in lonely:
        report.problem(
            f"speaker {speaker}",
            f"Speaker {speaker!r} has one utterance, but target trials need two: "
            "add recordings, or cut each into pieces (pieces_per_utterance: 2).",
        )
    return lonely


def _population(corpus: Corpus) -> str:
    return corpus.description.get("population", corpus.description["source"])
