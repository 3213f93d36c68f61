"""The on-disk corpus: one format for every source, and its reader.

A corpus is a folder::

    audio.i16            all samples one after another: 16 kHz, mono, little-endian int16
    utterances.parquet   one row an utterance, in the order of the audio: id, speaker, session,
                         split, start, length (samples), and what the source knows (sex, accent ...)
    trials/<list>.parquet   first, second (utterance ids), target
    corpus.json          source, version, settings, licence, counts, checksums

A corpus may also leave the source's files where they are: then there is no audio.i16, the table
has a `path` column, and corpus.json a `root`; only the part of a file that a crop needs is read.
"""

import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from studylib.errors import StudyError

SAMPLE_RATE = 16_000
SPLITS = ("train", "dev", "test")
COLUMNS = ("id", "speaker", "session", "split", "start", "length")
DESCRIPTION_KEYS = ("source", "version", "settings", "licence")
SAMPLE_BYTES = 2

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


class Corpus:
    """A corpus opened for reading. It is cheap to send to another process: only its path travels.

    Attributes
    ----------
    folder : Path
    utterances : DataFrame
        One row an utterance (RangeIndex); `start` and `length` in samples.
    description : dict
        What corpus.json holds.
    """

    def __init__(self, folder: Path, utterances: pd.DataFrame, description: dict):
        self.folder = folder
        self.utterances = utterances
        self.description = description
        self._starts = utterances["start"].to_numpy()
        self._lengths = utterances["length"].to_numpy()

    def __reduce__(self):
        return open_corpus, (self.folder,)

    def __repr__(self) -> str:
        speakers = self.utterances["speaker"].nunique()
        hours = self._lengths.sum() / SAMPLE_RATE / 3600
        return (
            f"Corpus({str(self.folder)!r}: {speakers:,} speakers, "
            f"{len(self.utterances):,} utterances, {hours:.1f} h)"
        )

    @property
    def trial_lists(self) -> tuple[str, ...]:
        """Names of the trial lists."""
        return tuple(sorted(path.stem for path in (self.folder / "trials").glob("*.parquet")))

    def trials(self, name: str) -> pd.DataFrame:
        """One trial list: first, second (rows of `utterances`, int64) and target (bool)."""
        if name not in self.trial_lists:
            known = ", ".join(self.trial_lists) or "none"
            raise StudyError(f"{self.folder} has no trial list {name!r}; it has: {known}.")
        path = self.folder / "trials" / f"{name}.parquet"
        trials = _read_table(path, ("first", "second", "target"))
        rows = pd.Index(self.utterances["id"])
        sides = {side: _as_rows(trials[side], rows, path) for side in ("first", "second")}
        return pd.DataFrame(sides | {"target": trials["target"].to_numpy(dtype=bool)})

    def samples(self, row: int) -> np.ndarray:
        """All samples of one utterance, (length,) int16."""
        return self.crops(np.array([row]), np.array([0]), int(self._lengths[row]))[0]

    def crops(self, rows: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
        """Cut one piece out of each of B utterances.

        Sample k of a crop is sample (start + k) mod (length of the utterance): an utterance that
        is too short is repeated from its start.

        Parameters
        ----------
        rows : (B,) int
            Rows of `utterances`.
        starts : (B,) int
            First sample of each crop, counted from the start of its utterance.
        length : int
            Samples a crop.

        Returns
        -------
        (B, length) int16

        Raises
        ------
        IndexError
            If a row is not in the table or a start not in its utterance.
        """
        rows, starts = np.asarray(rows, dtype=np.int64), np.asarray(starts, dtype=np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self._lengths)):
            raise IndexError(f"rows must lie in [0, {len(self._lengths)})")
        lengths = self._lengths[rows]
        if (starts < 0).any() or (starts >= lengths).any():
            raise IndexError("every start must lie within its utterance")
        crops = np.empty((len(rows), length), dtype=np.int16)
        for crop, row, start, whole in zip(
            crops, rows.tolist(), starts.tolist(), lengths.tolist(), strict=True
        ):
            if start + length <= whole:
                crop[:] = self._read(row, start, length)
            else:
                crop[:] = np.resize(np.roll(self._read(row, 0, whole), -start), length)
        return crops

    @cached_property
    def _audio(self) -> np.ndarray:
        # A plain array over the map: slicing an np.memmap costs several times more.
        return np.asarray(np.memmap(self.folder / "audio.i16", dtype="<i2", mode="r"))

    @cached_property
    def _paths(self) -> list[Path] | None:
        if "path" not in self.utterances:
            return None
        root = self.folder / self.description["root"]
        return [root / path for path in self.utterances["path"]]

    def _read(self, row: int, start: int, length: int) -> np.ndarray:
        if self._paths is None:
            begin = self._starts[row] + start
            return self._audio[begin : begin + length]
        path = self._paths[row]
        _check_file(path, int(self._lengths[row]))
        samples, _ = soundfile.read(path, frames=length, start=start, dtype="int16")
        if len(samples) != length:
            raise StudyError(f"{path} ends early: sample {start + len(samples)} cannot be read.")
        return samples


def open_corpus(folder: Path, verify: bool = False) -> Corpus:
    """Open a corpus; with `verify`, read everything once and compare it with its checksums.

    Raises
    ------
    StudyError
        If a file is missing or damaged, or files do not belong together.
    """
    folder = Path(folder)
    description = _read_description(folder)
    utterances = _read_table(folder / "utterances.parquet", COLUMNS)
    if len(utterances) != description["counts"]["utterances"]:
        raise StudyError(
            f"{folder / 'utterances.parquet'} has {len(utterances)} rows, but corpus.json counts "
            f"{description['counts']['utterances']} utterances: the corpus is damaged."
        )
    if "path" in utterances:
        if "root" not in description:
            raise StudyError(f"{folder / 'corpus.json'} lacks 'root', which the paths start from.")
    else:
        _check_audio(folder / "audio.i16", utterances)
    corpus = Corpus(folder, utterances, description)
    if verify:
        _verify(corpus)
    return corpus


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
        Replace what stands in the folder.

    Raises
    ------
    StudyError
        If another corpus stands in the folder, an id occurs twice, a speaker is in two splits, a
        trial names an unknown utterance, or there are no utterances.
    """
    folder = Path(folder)
    # What is compared with a stored description has been through JSON, as that one has.
    description = json.loads(json.dumps(dict(description) | ({"root": str(root)} if root else {})))
    if missing := [key for key in DESCRIPTION_KEYS if key not in description]:
        raise ValueError(f"description lacks {', '.join(missing)}")
    if folder.exists() and not overwrite:
        return _open_same(folder, description)
    with _partial_folder(folder) as partial:
        table = _write_utterances(partial, utterances)
        _check_utterances(table)
        _write_trials(partial, table, trials)
        _write_description(partial, description, table)
        return _move_into_place(partial, folder, description, overwrite)


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
            _as_rows(frame[side], rows, f"trial list {name!r}")
        frame[["first", "second", "target"]].to_parquet(path, index=False)


def _write_description(partial: Path, description: dict, table: pd.DataFrame) -> None:
    files = sorted(path for path in partial.rglob("*") if path.is_file())
    counts = {
        "utterances": len(table),
        "speakers": int(table["speaker"].nunique()),
        "hours": round(float(table["length"].sum()) / SAMPLE_RATE / 3600, 4),
        "trials": {
            path.stem: len(pd.read_parquet(path, columns=["target"]))
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
    for key, value in description.items():
        if corpus.description.get(key) != value:
            raise StudyError(
                f"{folder} holds another corpus: its {key} is {corpus.description.get(key)}, "
                f"wanted is {value}. Choose another folder, or ask to overwrite it."
            )
    return corpus


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


def _read_description(folder: Path) -> dict:
    path = folder / "corpus.json"
    if not path.is_file():
        raise StudyError(f"{folder} is not a corpus: it has no corpus.json. Prepare it first.")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        description["counts"]["utterances"], description["checksums"]
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path} is damaged: {error}.") from None
    return description


def _read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        raise StudyError(f"{path} is missing.")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are these two
        raise StudyError(f"{path} cannot be read as a table: {error}.") from None
    if missing := [column for column in columns if column not in table]:
        raise StudyError(f"{path} lacks the column {missing[0]!r}.")
    return table


def _check_audio(path: Path, utterances: pd.DataFrame) -> None:
    if not path.is_file():
        raise StudyError(f"{path} is missing.")
    expected = int((utterances["start"] + utterances["length"]).max()) * SAMPLE_BYTES
    if (size := path.stat().st_size) != expected:
        raise StudyError(
            f"{path} has {size:,} bytes, but utterances.parquet needs {expected:,}: "
            "it was cut or belongs to another corpus."
        )


def _check_file(path: Path, length: int) -> None:
    try:
        info = soundfile.info(path)
    except (OSError, soundfile.LibsndfileError):
        raise StudyError(f"{path} is missing or cannot be read as audio.") from None
    if (info.samplerate, info.channels, info.frames) != (SAMPLE_RATE, 1, length):
        raise StudyError(
            f"{path} has {info.frames} samples, {info.channels} channel(s), {info.samplerate} Hz; "
            f"expected {length} samples, 1 channel, {SAMPLE_RATE} Hz."
        )


def _verify(corpus: Corpus) -> None:
    for name, expected in corpus.description["checksums"].items():
        path = corpus.folder / name
        if not path.is_file():
            raise StudyError(f"{path} is missing.")
        if sha256(path) != expected:
            raise StudyError(f"{path} has changed since it was written: its checksum differs.")
    for path, length in zip(corpus._paths or (), corpus._lengths, strict=False):
        _check_file(path, int(length))


def _as_rows(ids: pd.Series, rows: pd.Index, where: Path | str) -> np.ndarray:
    """Utterance ids -> rows of the table, looking each distinct id up once."""
    names = ids.astype("category").cat
    found = rows.get_indexer(names.categories)
    result = found[names.codes.to_numpy()]
    if (result < 0).any() or (names.codes < 0).any():
        unknown = ids[(result < 0) | (names.codes.to_numpy() < 0)].iloc[0]
        raise StudyError(f"{where} names the utterance {unknown!r}, which the corpus lacks.")
    return result.astype(np.int64)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
