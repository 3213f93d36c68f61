"""Reading a corpus from its folder: the table, the trials, and pieces of audio."""

import hashlib
import json
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from studylib.errors import StudyError
from studylib.files.tables import read_parquet

SAMPLE_RATE = 16_000
SAMPLE_BYTES = 2
COLUMNS = ("id", "speaker", "session", "split", "start", "length")


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
        sides = {side: rows_of(trials[side], rows, path) for side in ("first", "second")}
        return pd.DataFrame(sides | {"target": trials["target"].to_numpy(dtype=bool)})

    def samples(self, row: int) -> np.ndarray:
        """All samples of one utterance, (length,) int16."""
        return self.crops(np.array([row]), np.array([0]), int(self._lengths[row]))[0]

    def crops(
        self,
        rows: np.ndarray,
        starts: np.ndarray,
        length: int,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
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
        out : (B, length) int16, optional
            Where to put them.

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
        crops = np.empty((len(rows), length), dtype=np.int16) if out is None else out
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
        return _read_file(self._paths[row], int(self._lengths[row]), start, length)


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


def _read_description(folder: Path) -> dict:
    path = folder / "corpus.json"
    if not path.is_file():
        raise StudyError(
            f"{folder} is not a corpus: it has no corpus.json; make it with `studylib corpus`"
        )
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
        table = read_parquet(path)
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


def _read_file(path: Path, whole: int, start: int, length: int) -> np.ndarray:
    """Part of an audio file, (length,) int16, if the file is what the table says it is."""
    try:
        with soundfile.SoundFile(path) as file:
            found = (file.frames, file.channels, file.samplerate)
            if found != (whole, 1, SAMPLE_RATE):
                raise StudyError(
                    f"{path} has {found[0]} samples, {found[1]} channel(s), {found[2]} Hz; "
                    f"expected {whole} samples, 1 channel, {SAMPLE_RATE} Hz."
                )
            file.seek(start)
            samples = file.read(length, dtype="int16")
    except (OSError, soundfile.LibsndfileError):
        raise StudyError(f"{path} is missing or cannot be read as audio.") from None
    if len(samples) != length:
        raise StudyError(f"{path} ends early: sample {start + len(samples)} cannot be read.")
    return samples


def _verify(corpus: Corpus) -> None:
    for name, expected in corpus.description["checksums"].items():
        path = corpus.folder / name
        if not path.is_file():
            raise StudyError(f"{path} is missing.")
        if sha256(path) != expected:
            raise StudyError(f"{path} has changed since it was written: its checksum differs.")
    for path, length in zip(corpus._paths or (), corpus._lengths, strict=False):
        _read_file(path, int(length), int(length) - 1, 1)


def rows_of(ids: pd.Series, rows: pd.Index, where: Path | str) -> np.ndarray:
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
