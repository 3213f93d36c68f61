"""Writes a corpus, checked and complete, or nothing."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from studylib.corpora.store import COLUMNS, SAMPLE_RATE, SPLITS, Corpus, open_corpus
from studylib.errors import StudyError
from studylib.files.atomic import atomic_folder, write_json
from studylib.files.checksums import digest, sha256

Trials = pd.DataFrame | Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Utterance:
    """One recording of one speaker, with its samples (int16, mono, 16 kHz)."""

    id: str
    speaker: str
    session: str
    split: str
    samples: np.ndarray = field(repr=False)
    facts: Mapping[str, str | float] = field(default_factory=dict)


def write_corpus(
    folder: Path,
    utterances: Iterable[Utterance] | pd.DataFrame,
    *,
    trials: Mapping[str, Trials],
    description: Mapping,
    audio: Path | None = None,
    overwrite: bool = False,
) -> Corpus:
    """Write a corpus, whole or not at all.

    A folder that already holds a corpus of the same description is kept, and `utterances` is not
    read at all.

    Parameters
    ----------
    folder : Path
        Where the corpus will be.
    utterances : iterable of Utterance, or DataFrame
        In the order in which they are stored; read once. Or a finished table, for samples that are
        stored already: in `audio`, or in files of their own (a column `path`).
    trials : mapping
        Name of a list -> its frame (first, second: utterance ids; target: bool), or a recipe that
        makes it from the table of utterances.
    description : mapping
        source, version, settings and licence; every change of the corpus must change it. For a
        table with paths also `root`, the folder they are relative to; a relative root is relative
        to the corpus folder.
    audio : Path, optional
        The samples of a finished table, as audio.i16 holds them; this file is moved.
    overwrite : bool
        Replace another corpus in the folder.

    Raises
    ------
    StudyError
        If the folder holds another corpus, an id occurs twice, a speaker is in two splits, or
        there are no utterances.
    """
    if found := find_written(folder, description, overwrite):
        return found
    with atomic_folder(folder) as partial:
        table, samples = utterances, audio
        if not isinstance(utterances, pd.DataFrame):
            samples = partial / "audio.i16"
            table = _write_samples(samples, utterances)
        check_utterances(table)
        table.to_parquet(partial / "utterances.parquet", index=False)
        (partial / "trials").mkdir()
        n_trials = {}
        for name in sorted(trials):
            frame = trials[name](table) if callable(trials[name]) else trials[name]
            path = partial / "trials" / f"{name}.parquet"
            frame[["first", "second", "target"]].to_parquet(path, index=False)
            n_trials[name] = len(frame)
        files = {path.relative_to(partial).as_posix(): path for path in partial.rglob("*.parquet")}
        if samples:
            files["audio.i16"] = samples
        speakers = table.groupby("split")["speaker"].nunique()
        counts = {
            "utterances": len(table),
            "speakers": table["speaker"].nunique(),
            "hours": round(float(table["length"].sum()) / SAMPLE_RATE / 3600, 4),
            **{f"{split}_speakers": int(speakers.get(split, 0)) for split in SPLITS},
            "trials": n_trials,
        }
        described = dict(description) | {
            "sample_rate": SAMPLE_RATE,
            "counts": counts,
            "sizes": {name: files[name].stat().st_size for name in sorted(files)},
            "checksums": {name: sha256(files[name]) for name in sorted(files)},
        }
        write_json(partial / "corpus.json", described | {"checksum": digest(described)})
        if audio:
            shutil.move(audio, partial / "audio.i16")
    return open_corpus(folder)


def find_written(folder: Path, description: Mapping, overwrite: bool) -> Corpus | None:
    """The corpus in a folder, verified, if it is the one described; None if it may be written.

    Raises
    ------
    StudyError
        If the folder holds anything but a corpus; or unless `overwrite`, if it holds another or a
        damaged corpus.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not (folder / "corpus.json").is_file():
        raise StudyError(f"{folder} is there, and is not a corpus: choose another folder.")
    try:
        stored = open_corpus(folder).description
        for key, value in description.items():
            if stored.get(key) != value:
                raise StudyError(
                    f"{folder} holds another corpus: its {key} is {stored.get(key)}, wanted is "
                    f"{value}. Choose another folder, or ask to overwrite it."
                )
        return open_corpus(folder, verify=True)
    except StudyError:
        if overwrite:
            return None
        raise


def _write_samples(path: Path, utterances: Iterable[Utterance]) -> pd.DataFrame:
    rows, facts, position = [], [], 0
    with open(path, "wb", buffering=1 << 20) as audio:
        for each in utterances:
            assert each.samples.dtype == np.int16
            audio.write(np.ascontiguousarray(each.samples, dtype="<i2").data)
            length = len(each.samples)
            rows.append((each.id, each.speaker, each.session, each.split, position, length))
            facts.append(each.facts)
            position += length
    table = pd.DataFrame.from_records(rows, columns=COLUMNS)
    return pd.concat([table, pd.DataFrame.from_records(facts)], axis=1)


def check_utterances(table: pd.DataFrame) -> None:
    """Raise StudyError unless there are utterances, of distinct ids, each speaker in one split."""
    if table.empty:
        raise StudyError("There are no utterances to make a corpus of.")
    if (repeated := table["id"][table["id"].duplicated()]).size:
        raise StudyError(f"The utterance id {repeated.iloc[0]!r} occurs twice; ids must be unique.")
    splits = table.groupby("speaker")["split"].nunique()
    if (splits > 1).any():
        raise StudyError(f"Speaker {splits.idxmax()!r} is in more than one split.")
