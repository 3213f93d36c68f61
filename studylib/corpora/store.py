"""The on-disk corpus: one format for every source.

A corpus is a folder::

    audio.i16            all samples one after another: 16 kHz, mono, little-endian int16
    utterances.parquet   one row an utterance, in the order of the audio: id, speaker, session,
                         split, start, length (samples), and what the source knows (sex, accent ...)
    trials/<list>.parquet   first, second (utterance ids), target
    corpus.json          source, version, settings, licence, counts, checksums

A corpus may also leave the source's files where they are: then there is no audio.i16, the table
has a `path` column, and corpus.json a `root`; only the part of a file that a crop needs is read.
"""

import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from studylib.corpora.reader import COLUMNS, SAMPLE_RATE, Corpus, open_corpus, rows_of, sha256
from studylib.errors import StudyError
from studylib.files.tables import read_parquet

__all__ = ["SAMPLE_RATE", "Corpus", "Utterance", "UtteranceFile", "open_corpus", "write_corpus"]

SPLITS = ("train", "dev", "test")
DESCRIPTION_KEYS = ("source", "version", "settings", "licence")

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


@dataclass(frozen=True)
class UtteranceFile:
    """One recording left in its file (16 kHz, mono): `path` absolute or relative to the root."""

    id: str
    speaker: str
    session: str
    split: str
    path: str
    length: int
    facts: Mapping[str, str | float] = field(default_factory=dict)


def write_corpus(
    folder: Path,
    utterances: Iterable[Utterance] | Iterable[UtteranceFile],
    *,
    trials: Mapping[str, Trials],
    description: Mapping,
    root: Path | None = None,
    overwrite: bool = False,
) -> Corpus:
    """Write a corpus into a folder beside its final one, and rename it when it is whole.

    A folder that already holds a corpus of the same description is kept, and `utterances` is not
    read at all. Two processes that write the same corpus do not disturb each other: the first to
    finish gives the name.

    Parameters
    ----------
    folder : Path
        Where the corpus will be.
    utterances : iterable of Utterance, or of UtteranceFile
        In the order in which they are stored; read once.
    trials : mapping
        Name of a list -> its frame (first, second: utterance ids; target: bool), or a recipe that
        makes it from the table of utterances.
    description : mapping
        source, version, settings and licence; whatever changes the corpus must change it.
    root : Path
        Only for UtteranceFile: the folder that their paths start from. A relative root counts
        from the corpus folder.
    overwrite : bool
        Replace another corpus that stands in the folder.

    Raises
    ------
    StudyError
        If another corpus stands in the folder, an id occurs twice, a speaker is in two splits, a
        trial names an unknown utterance, or there are no utterances.
    """
    folder = Path(folder)
    description = _as_stored(description, root)
    if missing := [key for key in DESCRIPTION_KEYS if key not in description]:
        raise ValueError(f"description lacks {', '.join(missing)}")
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if folder.exists() and overwrite and not (folder / "corpus.json").is_file():
        raise StudyError(f"{folder} is not a corpus (no corpus.json), so it is not overwritten.")
    if folder.exists() and not (overwrite and _differs(open_corpus(folder), description)):
        return _open_same(folder, description)
    with _partial_folder(folder) as partial:
        table = _write_utterances(partial, utterances)
        _check_utterances(table)
        _write_trials(partial, table, trials)
        _write_description(partial, description, table)
        return _move_into_place(partial, folder, description, overwrite)


def find_written(folder: Path, description: Mapping, root: Path | None = None) -> Corpus | None:
    """The corpus in a folder, if it is the one that `write_corpus` would write there."""
    if not folder.exists():
        return None
    corpus = open_corpus(folder)
    return None if _differs(corpus, _as_stored(description, root)) else corpus


def _as_stored(description: Mapping, root: Path | None) -> dict:
    """What is compared with a stored description has been through JSON, as that one has."""
    return json.loads(json.dumps(dict(description) | ({"root": str(root)} if root else {})))


def _write_utterances(partial: Path, utterances: Iterable) -> pd.DataFrame:
    rows, facts = [], []
    position = 0
    with open(partial / "audio.i16", "wb", buffering=1 << 20) as audio:
        for utterance in utterances:
            names = (utterance.id, utterance.speaker, utterance.session, utterance.split)
            facts.append(utterance.facts)
            if isinstance(utterance, UtteranceFile):
                rows.append((*names, 0, int(utterance.length), str(utterance.path)))
                continue
            samples = np.ascontiguousarray(utterance.samples)
            if samples.dtype != np.int16 or samples.ndim != 1:
                raise ValueError(f"samples of {utterance.id} must be one row of int16")
            audio.write(samples.astype("<i2", copy=False).data)
            rows.append((*names, position, len(samples)))
            position += len(samples)
    if not rows:
        raise StudyError(
            f"No utterances for {partial.name.split('.partial-')[0]}: nothing to write."
        )
    if len({len(row) for row in rows}) > 1:
        raise ValueError("a corpus has either samples or files, not both")
    in_place = len(rows[0]) > len(COLUMNS)
    if in_place:
        (partial / "audio.i16").unlink()
    columns = (*COLUMNS, "path") if in_place else COLUMNS
    table = pd.DataFrame.from_records(rows, columns=columns)
    table = pd.concat([table, pd.DataFrame.from_records(facts)], axis=1)
    table.to_parquet(partial / "utterances.parquet", index=False)
    return table


def _check_utterances(table: pd.DataFrame) -> None:
    if (repeated := table["id"][table["id"].duplicated()]).size:
        raise StudyError(f"The utterance id {repeated.iloc[0]!r} occurs twice; ids must be unique.")
    if (unknown := table["split"][~table["split"].isin(SPLITS)]).size:
        raise StudyError(f"Split {unknown.iloc[0]!r} is not one of {', '.join(SPLITS)}.")
    if (table["length"] <= 0).any():
        raise StudyError(f"The utterance {table['id'][table['length'] <= 0].iloc[0]!r} is empty.")
    splits = table.groupby("speaker")["split"].nunique()
    if (splits > 1).any():
        raise StudyError(f"Speaker {splits.idxmax()!r} is in more than one split.")


def _write_trials(partial: Path, table: pd.DataFrame, trials: Mapping[str, Trials]) -> None:
    (partial / "trials").mkdir()
    rows = pd.Index(table["id"])
    for name, recipe in trials.items():
        frame = recipe(table) if callable(recipe) else recipe
        path = partial / "trials" / f"{name}.parquet"
        for side in ("first", "second"):
            rows_of(frame[side], rows, f"trial list {name!r}")
        frame[["first", "second", "target"]].to_parquet(path, index=False)


def _write_description(partial: Path, description: dict, table: pd.DataFrame) -> None:
    files = sorted(path for path in partial.rglob("*") if path.is_file())
    counts = {
        "utterances": len(table),
        "speakers": int(table["speaker"].nunique()),
        "hours": round(float(table["length"].sum()) / SAMPLE_RATE / 3600, 4),
        "trials": {
            path.stem: len(read_parquet(path, columns=["target"]))
            for path in files
            if path.parent.name == "trials"
        },
    } | {
        f"{split}_speakers": int(table.loc[table["split"] == split, "speaker"].nunique())
        for split in SPLITS
    }
    checksums = {path.relative_to(partial).as_posix(): sha256(path) for path in files}
    whole = description | {
        "sample_rate": SAMPLE_RATE,
        "counts": counts,
        "checksums": checksums,
    }
    (partial / "corpus.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def _open_same(folder: Path, description: dict) -> Corpus:
    corpus = open_corpus(folder)
    if key := _differs(corpus, description):
        raise StudyError(
            f"{folder} holds another corpus: its {key} is {corpus.description.get(key)}, "
            f"wanted is {description[key]}. Choose another folder, or ask to overwrite it."
        )
    return corpus


def _differs(corpus: Corpus, description: dict) -> str | None:
    """The first key in which a corpus is not what the description asks for."""
    for key, value in description.items():
        if corpus.description.get(key) != value:
            return key
    return None


@contextmanager
def _partial_folder(folder: Path) -> Iterator[Path]:
    """A fresh sibling folder, removed unless it was renamed; those of dead processes too."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    for stale in folder.parent.glob(f"{folder.name}.partial-*"):
        owner, _, rest = stale.name.split(".partial-")[1].rpartition(".pid-")
        if owner == host and not _is_alive(int(rest.split("-")[0])):
            shutil.rmtree(stale, ignore_errors=True)
    token = uuid.uuid4().hex[:8]
    partial = folder.parent / f"{folder.name}.partial-{host}.pid-{os.getpid()}-{token}"
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is not a question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _move_into_place(partial: Path, folder: Path, description: dict, overwrite: bool) -> Corpus:
    old = partial.with_name(partial.name + "-old")
    if overwrite and folder.exists():
        folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        # Another process was first.
        return _open_same(folder, description)
    finally:
        shutil.rmtree(old, ignore_errors=True)
    return open_corpus(folder)
