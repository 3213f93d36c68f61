"""Open-set check: no test speaker may be among a model's training speakers."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from studylib.corpora.store import Corpus
from studylib.errors import StudyError
from studylib.files.atomic import read_json

KNOWN_SPEAKERS = "known_speakers.json"


def known_speakers(corpus: Corpus, learned: Iterable[str] | None = None) -> dict:
    """Speakers that a model trained on this corpus knows, as plain values to store with it.

    Parameters
    ----------
    corpus : Corpus
    learned : iterable of str, optional
        Its training speakers; all of the corpus's unless given.

    Returns
    -------
    {"population": str, "train": list of str, "dev": list of str}
        Its training speakers, and the development speakers that may have selected it. Equal names
        mean the same speaker only within one population (`voxceleb` for VoxCeleb 1 and 2,
        `librispeech`, one for each folder corpus).
    """
    speakers = corpus.utterances.groupby("split")["speaker"].unique()
    known = {split: sorted(speakers.get(split, ())) for split in ("train", "dev")}
    if learned is not None:
        known["train"] = sorted(map(str, learned))
    return {"population": _population(corpus)} | known


def refuse_known_speakers(known: dict, corpus: Corpus, trial_list: str) -> None:
    """Raise StudyError if a model was trained or selected on speakers of a trial list.

    The lists VoxCeleb1-E and -H, which have VoxCeleb1's development speakers, are refused for a
    model trained on these. Development speakers that selected a model are accepted in the split
    `dev` and refused in the split `test`; training speakers are refused in every list.

    Parameters
    ----------
    known : dict
        From `known_speakers`, for the corpus the model was trained on.
    corpus : Corpus
        Of the trial list.
    trial_list : str
    """
    if known["population"] != _population(corpus):
        return
    trials = corpus.trials(trial_list)
    rows = pd.unique(trials[["first", "second"]].to_numpy().ravel())
    compared = corpus.utterances.iloc[rows].drop_duplicates("speaker")
    for_choosing = set(compared.loc[compared["split"] == "dev", "speaker"])
    compared = set(compared["speaker"])
    shared = compared & set(known["train"]) | (compared - for_choosing) & set(known["dev"])
    if shared:
        shown = ", ".join(sorted(shared)[:3]) + " ..." * (len(shared) > 3)
        raise StudyError(
            f"The model knows {len(shared)} of the {len(compared)} speakers of {corpus.folder}, "
            f"trial list {trial_list!r} ({shown}): expected none of them."
        )


def known_to_model(model_file: Path) -> list[dict] | None:
    """`known_speakers` of each corpus that a model was trained on; None without the file.

    Training writes it beside the model, as known_speakers.json.
    """
    path = model_file.with_name(KNOWN_SPEAKERS)
    if not path.is_file():
        return None
    known = read_json(path)
    facts = [each.keys() for each in known if isinstance(each, dict)]
    if len(facts) < len(known) or any(keys != {"population", "train", "dev"} for keys in facts):
        raise StudyError(f"{path} is damaged: expected population, train and dev of each corpus.")
    return known


def _population(corpus: Corpus) -> str:
    return corpus.description.get("population", corpus.description["source"])
