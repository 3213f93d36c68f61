"""What is in a corpus: tables of its splits and trials, and utterances to look at and listen to.

Works for every source: columns that a source lacks are left out.
"""

import io
import os
import re

import numpy as np
import pandas as pd
import soundfile

from studylib.corpora.store import SAMPLE_RATE, Corpus, skipped_file

LOUDNESS = 0.08  # root mean square of a clip to listen to, full scale 1
MP3_QUALITY = 0.6  # 0 best to 1 smallest: about 3 kB a second


def split_table(corpus: Corpus) -> pd.DataFrame:
    """One row a split: speakers (and how many of each sex), sessions, utterances, hours, seconds.

    `seconds` is the median length of an utterance.
    """
    table = corpus.utterances.assign(seconds=corpus.utterances["length"] / SAMPLE_RATE)
    splits = table.groupby("split", sort=False)
    counts = splits[["speaker", "session", "id"]].nunique()
    counts.columns = ["speakers", "sessions", "utterances"]
    counts["hours"], counts["seconds"] = splits["seconds"].sum() / 3600, splits["seconds"].median()
    if "sex" in table:
        speakers = table.drop_duplicates("speaker")
        counts = counts.join(pd.crosstab(speakers["split"], speakers["sex"].fillna("unknown")))
    return counts.round(2)


def trial_table(corpus: Corpus) -> pd.DataFrame:
    """One row a trial list: trials, targets, nontargets, and how many speakers they are of."""
    lists = pd.concat({name: corpus.trials(name) for name in corpus.trial_lists}, names=["list"])
    table = lists.groupby("list")["target"].agg(trials="size", targets="sum")
    speakers = [_used(corpus, name)["speaker"].nunique() for name in table.index]
    return table.assign(nontargets=table["trials"] - table["targets"], speakers=speakers)


def _used(corpus: Corpus, trial_list: str) -> pd.DataFrame:
    """The utterances of a trial list."""
    trials = corpus.trials(trial_list)
    return corpus.utterances.loc[np.union1d(trials["first"], trials["second"])]


def recorded_once(utterances: pd.DataFrame) -> bool:
    """Whether each speaker's utterances are all of one session, or all pieces of one recording.

    A recording's room and microphone then give its speaker away, under session effects too.
    """
    recording = utterances["id"].str.partition("#")[0]
    several = utterances.assign(recording=recording).groupby("speaker", observed=True)
    return bool((several[["session", "recording"]].nunique() == 1).any(axis="columns").all())


def channel_warnings(corpus: Corpus) -> list[str]:
    """A sentence for each trial list whose speakers have one recording each."""
    return [
        f"{name}: each speaker has one recording, which gives the speaker away; compare every "
        "error rate with that of logmel_whitened, a linear system that hears it too"
        for name in corpus.trial_lists
        if recorded_once(_used(corpus, name))
    ]


def left_out(corpus: Corpus) -> pd.DataFrame:
    """Recordings and speakers left out of the corpus, and why; empty if none.

    Paths are relative to the parent of the corpora's folder: the project.
    """
    path = skipped_file(corpus.folder)
    if not path.exists():
        return pd.DataFrame(columns=["skipped", "why"])
    project = re.escape(f"{path.parent.parent.absolute()}{os.sep}")
    return pd.read_csv(path, dtype=str).replace(project, "", regex=True)


def sounds_to_compare(corpus: Corpus, row: int) -> dict[str, np.ndarray]:
    """An utterance, another of the same speaker, one of another speaker.

    The speaker's other utterance is of another session if there is one. The other speaker is of
    the same split and sex, and the nearest in F0, where these are known.

    Returns
    -------
    dict
        Title -> (S,) int16 samples.
    """
    # Missing where the source knows no sex or F0
    facts = corpus.utterances.reindex(columns=["speaker", "session", "split", "sex", "f0"])
    own, own_speaker = facts.loc[row], facts["speaker"] == facts.loc[row, "speaker"]
    same = facts[own_speaker & (facts.index != row)]
    same = (same["session"] == own["session"]).sort_values(kind="stable")
    others = facts[(facts["split"] == own["split"]) & ~own_speaker]
    apart = {"sex": others["sex"] != own["sex"], "f0": (others["f0"] - own["f0"]).abs()}
    nearest = pd.DataFrame(apart).sort_values(["sex", "f0"])
    rows = {"as recorded": [row], "the same speaker": same.index[:1]}
    rows |= {"another speaker": nearest.index[:1]}
    return {title: corpus.samples(found[0]) for title, found in rows.items() if len(found)}


def player(samples: np.ndarray, seconds: float = 5.0):
    """The first seconds of an utterance as a sound to click on (IPython.display.Audio).

    Levels are equalised, as the corpus's differ widely; MP3 keeps an executed notebook small.
    """
    from IPython.display import Audio

    signal = samples[: round(seconds * SAMPLE_RATE)].astype(np.float64)
    gain = LOUDNESS / max(np.sqrt(np.mean(signal**2)), 1e-9)
    signal *= min(gain, 0.95 / max(np.abs(signal).max(), 1e-9))
    file = io.BytesIO()
    quality = {"bitrate_mode": "VARIABLE", "compression_level": MP3_QUALITY}
    soundfile.write(file, signal, SAMPLE_RATE, format="MP3", **quality)
    return Audio(file.getvalue(), rate=SAMPLE_RATE)
