"""What is in a corpus: tables of its splits and trials, and utterances to look at and listen to.

Works for every source: what a source does not know of its utterances is left out.
"""

import io
import os
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from studylib.corpora.store import SAMPLE_RATE, Corpus, skipped_file
from studylib.errors import StudyError

LOUDNESS = 0.08  # root mean square of a clip to listen to, full scale 1
MP3_QUALITY = 0.6  # 0 best to 1 smallest: about 3 kB a second


def split_table(corpus: Corpus) -> pd.DataFrame:
    """One row a split: speakers (and how many of each sex), sessions, utterances, hours, seconds.

    `seconds` is the median length of an utterance.
    """
    seconds = corpus.utterances["length"] / SAMPLE_RATE
    splits = corpus.utterances.assign(seconds=seconds).groupby("split", sort=False)
    speakers = corpus.utterances.drop_duplicates("speaker").groupby("split", sort=False)
    table = {"speakers": splits["speaker"].nunique()}
    if "sex" in corpus.utterances:
        for sex, name in (("f", "women"), ("m", "men")):
            table[name] = speakers["sex"].agg(lambda sexes, sex=sex: int((sexes == sex).sum()))
    table |= {
        "sessions": splits["session"].nunique(),
        "utterances": splits.size(),
        "hours": splits["seconds"].sum() / 3600,
        "seconds": splits["seconds"].median(),
    }
    return pd.DataFrame(table).round(2)


def trial_table(corpus: Corpus) -> pd.DataFrame:
    """One row a trial list: trials, targets, non-targets, and who and what occurs in them."""
    speaker_of = corpus.utterances["speaker"].to_numpy()
    rows = {}
    for name in corpus.trial_lists:
        trials = corpus.trials(name)
        used = np.unique(trials[["first", "second"]].to_numpy())
        n_targets = int(trials["target"].sum())
        rows[name] = {
            "trials": len(trials),
            "targets": n_targets,
            "non-targets": len(trials) - n_targets,
            "speakers": len(pd.unique(speaker_of[used])),
            "utterances": len(used),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def left_out(corpus: Corpus, most: int = 100) -> str:
    """What the corpus was made without, and why, a line each (at most so many of them).

    Paths are told from the folder that the corpora's own folder is in: the project.
    """
    path = skipped_file(corpus.folder)
    if not path.exists():
        return "Nothing was left out."
    project = f"{path.parent.parent.absolute()}{os.sep}"
    reasons = [text.replace(project, "") for text in pd.read_csv(path, dtype=str)["why"]]
    lines = [f"Left out: {len(reasons):,}", *reasons[:most]]
    if len(reasons) > most:
        lines.append(f"The others are listed in {path.name}.")
    return "\n".join(lines)


def unknown(utterances: pd.DataFrame, facts: list[str]) -> str:
    """A sentence on those of the facts that the corpus does not know of any utterance."""
    missing = [name for name in facts if name not in utterances or utterances[name].isna().all()]
    if not missing:
        return "The corpus knows all that is shown here."
    return f"Not shown, as this corpus does not know it: {', '.join(missing)}."


def example_row(corpus: Corpus, utterance: str | None = None) -> int:
    """The row of an utterance; by default one with everything in its way.

    That is, one of which the most is known (an effect that a session lacks is not a number), and
    of these the one whose SNR, if it is known, is nearest to the median.

    Raises
    ------
    StudyError
        If the corpus lacks the utterance.
    """
    utterances = corpus.utterances
    if utterance is not None:
        found = np.flatnonzero(utterances["id"] == utterance)
        if not len(found):
            raise StudyError(f"{corpus.folder} has no utterance {utterance!r}.")
        return int(found[0])
    known = utterances.notna().sum(axis=1)
    best = utterances[known == known.max()]
    if "snr" not in best:
        return int(best.index[0])
    return int(np.abs(best["snr"] - utterances["snr"].median()).idxmin())


def example_facts(corpus: Corpus, row: int) -> dict[str, Any]:
    """What the corpus knows of an utterance, its place in the audio apart."""
    facts = corpus.utterances.iloc[row].drop(["start", "length"]).dropna()
    return {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in facts.items()
    }


def clean_samples(corpus: Corpus, row: int) -> np.ndarray | None:
    """The utterance before its session's effects (S,) float32, where the corpus can make it again.

    None if the source is not the embedded one, or its synthesizer here is not the one that made
    the corpus.
    """
    from studylib.corpora.synthetic.settings import EmbeddedSettings
    from studylib.corpora.synthetic.speakers import synthesize

    if corpus.description["source"] != "embedded":
        return None
    utterances = corpus.utterances
    speaker = utterances["speaker"].iloc[row]
    split, number = speaker.rsplit("-", 1)
    position = int((utterances["speaker"].iloc[:row] == speaker).sum())
    settings = EmbeddedSettings(**corpus.description["settings"])
    try:
        made = synthesize(settings, split, int(number), position + 1)[position]
    except StudyError:
        return None
    return made.clean if np.array_equal(made.samples, corpus.samples(row)) else None


def companions(corpus: Corpus, row: int) -> dict[str, int]:
    """Two more utterances to compare one with: of the same speaker, and of another.

    The same speaker's is of another session if there is one. The other speaker is of the same
    split and sex, and the nearest in F0, where these are known.
    """
    utterances = corpus.utterances
    own = utterances.iloc[row]
    same = utterances[(utterances["speaker"] == own["speaker"]) & (utterances.index != row)]
    others = utterances[
        (utterances["split"] == own["split"]) & (utterances["speaker"] != own["speaker"])
    ]
    if "sex" in others and (others["sex"] == own["sex"]).any():
        others = others[others["sex"] == own["sex"]]
    if "f0" in others:
        others = others.iloc[np.argsort(np.abs(others["f0"] - own["f0"]), kind="stable")]
    another_session = same[same["session"] != own["session"]]
    same = same if another_session.empty else another_session
    return {
        name: int(frame.index[0])
        for name, frame in (("the same speaker", same), ("another speaker", others))
        if not frame.empty
    }


def player(samples: np.ndarray, seconds: float = 5.0):
    """The first seconds of an utterance as a sound to click on (IPython.display.Audio).

    Levels are evened out, as the corpus's are far apart; MP3 keeps an executed notebook small.
    """
    from IPython.display import Audio

    signal = samples[: round(seconds * SAMPLE_RATE)].astype(np.float64)
    gain = LOUDNESS / max(np.sqrt(np.mean(signal**2)), 1e-9)
    signal *= min(gain, 0.95 / max(np.abs(signal).max(), 1e-9))
    file = io.BytesIO()
    soundfile.write(
        file,
        signal,
        SAMPLE_RATE,
        format="MP3",
        bitrate_mode="VARIABLE",
        compression_level=MP3_QUALITY,
    )
    return Audio(file.getvalue(), rate=SAMPLE_RATE)
