"""The on-disk corpus, opened for reading: one format for every source.

A corpus is a folder::

    audio.i16            all samples one after another: 16 kHz, mono, little-endian int16
    utterances.parquet   one row an utterance, in the order of the audio: id, speaker, session,
                         split, start, length (samples), and the source's other columns (sex ...)
    trials/<list>.parquet   first, second (utterance ids), target
    corpus.json          source, version, settings, licence, counts; sizes and checksums of the
                         other files; a checksum of all this

A corpus may also leave the source's files where they are: then there is no audio.i16, the table
has a `path` column, and corpus.json a `root`; only the part of a file that a crop needs is read.
`writing` writes this format.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from studylib.errors import StudyError
from studylib.files.atomic import read_json
from studylib.files.checksums import changed_files, digest
from studylib.files.tables import read_parquet

SAMPLE_RATE = 16_000
SAMPLE_BYTES = 2
SPLITS = ("train", "dev", "test")
COLUMNS = ("id", "speaker", "session", "split", "start", "length")
READERS = 4  # threads that read crops from files in place


class Corpus:
    """A corpus opened for reading. Pickling stores only its path.

    Attributes
    ----------
    folder : Path
    utterances : DataFrame
        One row an utterance (RangeIndex); `start` and `length` in samples.
    description : dict
        The content of corpus.json.
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
        speakers, hours = self.utterances["speaker"].nunique(), self._lengths.sum() / 3600
        size = f"{speakers:,} speakers, {len(self._lengths):,} utterances"
        return f"Corpus({str(self.folder)!r}: {size}, {hours / SAMPLE_RATE:.1f} h)"

    @property
    def trial_lists(self) -> tuple[str, ...]:
        """Names of the trial lists."""
        return tuple(sorted(path.stem for path in (self.folder / "trials").glob("*.parquet")))

    @property
    def provenance(self) -> dict:
        """What a manifest of results says of the corpus: source, counts, checksums."""
        return {key: self.description[key] for key in ("source", "counts", "checksums")}

    @property
    def main_list(self) -> str:
        """The trial list to measure on where none is named: "test", or else the first."""
        lists = self.trial_lists
        if not lists:
            raise StudyError(f"{self.folder} has no trial list to measure on: expected 'test'")
        return "test" if "test" in lists else lists[0]

    def trials(self, name: str) -> pd.DataFrame:
        """One trial list: first, second (rows of `utterances`, int64) and target (bool)."""
        if name not in self.trial_lists:
            known = ", ".join(self.trial_lists) or "none"
            raise StudyError(f"{self.folder} has no trial list {name!r}; it has: {known}.")
        path = self.folder / "trials" / f"{name}.parquet"
        _require_unchanged(self.folder, self.description, f"trials/{name}.parquet")
        trials = read_parquet(path)
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
        """Read one crop of each of B utterances.

        Sample k of a crop is sample (start + k) mod (length of the utterance): an utterance that
        is too short is repeated from its start. Disks serve many requests at once, so all crops are
        announced (posix_fadvise) before the first is read; files in place are read by threads.

        Parameters
        ----------
        rows : (B,) int
            Rows of `utterances`.
        starts : (B,) int
            First sample of each crop, counted from the start of its utterance.
        length : int
            Samples a crop.
        out : (B, length) int16, C-contiguous, optional
            Array to fill.

        Returns
        -------
        (B, length) int16

        Raises
        ------
        IndexError
            If a row is not in the table or a start not in its utterance.
        """
        rows, starts = np.asarray(rows, dtype=np.int64), np.asarray(starts, dtype=np.int64)
        lengths = self._lengths[rows]
        if (rows < 0).any() or (starts < 0).any() or (starts >= lengths).any():
            raise IndexError("every row must be in the table and every start in its utterance")
        crops = np.empty((len(rows), length), dtype=np.int16) if out is None else out
        fits = starts + length <= lengths
        begins, sizes = np.where(fits, starts, 0), np.where(fits, length, lengths)
        wanted = list(zip(rows.tolist(), begins.tolist(), sizes.tolist(), strict=True))

        def read(number: int) -> None:
            row, begin, size = wanted[number]
            if fits[number]:
                self._read(row, begin, crops[number])
            else:
                samples = np.empty(size, dtype=np.int16)
                self._read(row, begin, samples)
                crops[number] = np.resize(np.roll(samples, -starts[number]), length)

        if self._paths is not None:
            with ThreadPoolExecutor(READERS) as pool:
                list(pool.map(read, range(len(wanted))))
            return crops
        if hasattr(os, "posix_fadvise"):
            for row, begin, size in wanted:
                place, size = SAMPLE_BYTES * (self._starts[row] + begin), SAMPLE_BYTES * size
                os.posix_fadvise(self._audio.fileno(), place, size, os.POSIX_FADV_WILLNEED)
        for number in range(len(wanted)):
            read(number)
        return crops

    def _read(self, row: int, begin: int, samples: np.ndarray) -> None:
        """Fill `samples` with those of one utterance from `begin` on."""
        if self._paths is not None:
            _read_file(self._paths[row], int(self._lengths[row]), begin, samples)
            return
        place = SAMPLE_BYTES * (int(self._starts[row]) + begin)
        if hasattr(os, "preadv"):
            read = os.preadv(self._audio.fileno(), [samples], place)
        else:
            with open(self._audio.name, "rb", buffering=0) as audio:
                audio.seek(place)
                read = audio.readinto(samples)
        if read < samples.nbytes:
            raise StudyError(f"{self._audio.name} ends early: the corpus is damaged.")

    @cached_property
    def _audio(self):
        return open(self.folder / "audio.i16", "rb", buffering=0)

    @cached_property
    def _paths(self) -> list[Path] | None:
        if "path" not in self.utterances:
            return None
        root = self.folder / self.description["root"]
        return [root / path for path in self.utterances["path"]]


def open_corpus(folder: Path, verify: bool = False) -> Corpus:
    """Open a corpus: sizes are checked, and the checksums of corpus.json and of the table.

    A trial list is checked when it is read. With `verify`, everything is read once, audio included.

    Raises
    ------
    StudyError
        If a file is missing or damaged, or files do not belong together.
    """
    folder = Path(folder)
    if not (folder / "corpus.json").is_file():
        raise StudyError(
            f"{folder} is not a corpus: it has no corpus.json; make it with `studylib corpus`"
        )
    description = read_json(folder / "corpus.json")
    facts = set(description) if isinstance(description, dict) else set()
    checksum = facts and description.pop("checksum", None)  # older corpora have none
    if not facts >= {"source", "counts", "sizes"} or checksum not in (None, digest(description)):
        raise StudyError(f"{folder / 'corpus.json'} has changed since it was written.")
    for name, size in description["sizes"].items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else 0
        if found != size:
            raise StudyError(
                f"{path} has {found:,} bytes, but corpus.json says {size:,}: it is missing, was "
                "cut, or belongs to another corpus."
            )
    _require_unchanged(folder, description, "utterances.parquet")
    corpus = Corpus(folder, read_parquet(folder / "utterances.parquet"), description)
    if verify:
        _require_unchanged(folder, description, *description["checksums"])
        for path, length in zip(corpus._paths or (), corpus._lengths, strict=False):
            _read_file(path, int(length), int(length) - 1, np.empty(1, dtype=np.int16))
    return corpus


def skipped_file(folder: Path) -> Path:
    """Path of the table of recordings left out of a corpus; the file exists if there are any."""
    return folder.with_name(f"{folder.name}.skipped.csv")


def rows_of(ids: pd.Series, rows: pd.Index, where: Path | str) -> np.ndarray:
    """Utterance ids -> rows of the table, looking each distinct id up once."""
    names = ids.astype("category").cat
    found = rows.get_indexer(names.categories)
    result = found[names.codes.to_numpy()]
    if (result < 0).any() or (names.codes < 0).any():
        unknown = ids[(result < 0) | (names.codes.to_numpy() < 0)].iloc[0]
        raise StudyError(f"{where} names the utterance {unknown!r}, which the corpus lacks.")
    return result.astype(np.int64)


def _require_unchanged(folder: Path, description: dict, *names: str) -> None:
    for path in changed_files(folder, {name: description["checksums"][name] for name in names}):
        raise StudyError(f"{path} has changed since it was written: its checksum differs.")


def _read_file(path: Path, whole: int, start: int, samples: np.ndarray) -> None:
    """Read part of an audio file into `samples`, after checking its length, channels and rate."""
    import soundfile  # only for a corpus whose files stay in place

    try:
        with soundfile.SoundFile(path) as file:
            found = (file.frames, file.channels, file.samplerate)
            if found != (whole, 1, SAMPLE_RATE):
                raise StudyError(
                    f"{path} has {found[0]} samples, {found[1]} channel(s), {found[2]} Hz; "
                    f"expected {whole} samples, 1 channel, {SAMPLE_RATE} Hz."
                )
            file.seek(start)
            read = len(file.read(len(samples), out=samples))
    except (OSError, soundfile.LibsndfileError):
        raise StudyError(f"{path} is missing or cannot be read as audio.") from None
    if read != len(samples):
        raise StudyError(f"{path} ends early: sample {start + read} cannot be read.")
