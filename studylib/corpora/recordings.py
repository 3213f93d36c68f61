"""The list of a source's recordings, before any is decoded: its settings; read, checked, split."""

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from studylib.corpora.report import Report, read_rows
from studylib.corpora.store import SPLITS
from studylib.corpora.trials import TrialList
from studylib.errors import StudyError
from studylib.files.documents import Name, Section

ENOUGH_TO_TRAIN = 20  # speakers of a corpus without splits; fewer are all tested
# What decides the samples of a list of recordings.
DECISIVE = {"storage", "pieces_per_utterance", "session_effects", "minimum_seconds", "seed"}
Amount = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class Recording:
    """One file of a source: what is known of it before it is decoded.

    `split` is None for a source that leaves it to the settings. `size` (bytes) and `changed`
    (ns) are filled in when the list is checked.
    """

    id: str
    speaker: str
    session: str
    split: str | None
    path: Path
    facts: Mapping[str, str | float] = field(default_factory=dict)
    size: int = 0
    changed: int = 0

    def place(self, root: Path) -> str:
        """Its path, relative to the root if it lies below."""
        # Plain strings: pathlib is ten times slower, and there may be a million files.
        return str(self.path).removeprefix(f"{root}{os.sep}").replace(os.sep, "/")


class Splits(Section):
    """How speakers are split; no speaker is ever in two splits.

    Attributes
    ----------
    dev, test : int or float
        A number of speakers (int) or a share of them (float), drawn at random; the rest train.
    seed : int
        Of the draw.
    file : Path
        Instead of a draw, a table with the columns speaker and split; speakers that it does not
        name are left out.
    """

    dev: Amount = 0
    test: Amount = 0
    seed: int = Field(default=0, ge=0)
    file: Path | None = None

    def assign(self, speakers: Iterable[str], report: Report) -> dict[str, str]:
        """Speaker -> split; speakers that are left out have no entry.

        Raises
        ------
        StudyError
            If more speakers are asked for than there are; for a fault of the table, unless the
            report keeps going.
        """
        speakers = sorted(set(speakers))
        if self.file is not None:
            return _read_splits(self.file, set(speakers), report)
        n_test, n_dev = (
            amount if isinstance(amount, int) else round(amount * len(speakers))
            for amount in (self.test, self.dev)
        )
        if n_test + n_dev > len(speakers):
            raise StudyError(f"splits: expected {len(speakers)} speakers at most in dev and test")
        names = ["test"] * n_test + ["dev"] * n_dev + ["train"] * (len(speakers) - n_test - n_dev)
        order = np.random.default_rng(self.seed).permutation(len(speakers))
        return {speakers[place]: name for place, name in zip(order, names, strict=True)}


class PreparationSettings(Section):
    """The settings that all sources share.

    Attributes
    ----------
    storage : str
        packed (all samples in one file) or in_place (the source's files stay where they are and
        are read in part: 16-kHz mono 16-bit wav and flac only). The samples are the same.
    splits : Splits or None
        None: as the source has them.
    trials : mapping of TrialList
        None: all pairs of dev and of test, where they have speakers.
    pieces_per_utterance : int
        Utterances to cut each file into: speakers with one file then have target trials.
    session_effects : str or None
        Add a room, a microphone and noise (mild, mid, hard), drawn for each utterance, which then
        is a session of its own.
    minimum_seconds : float
        Shorter utterances are refused.
    keep_going : bool
        Skip and list unusable recordings instead of stopping at the first.
    seed : int
        Of the session effects.
    """

    storage: Literal["packed", "in_place"] = "packed"
    splits: Splits | None = None
    trials: dict[Name, TrialList] | None = None
    pieces_per_utterance: int = Field(default=1, ge=1)
    session_effects: Literal["mild", "mid", "hard"] | None = None
    minimum_seconds: float = Field(default=0.5, ge=0.05)
    keep_going: bool = False
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _in_place_as_is(self) -> "PreparationSettings":
        if self.storage == "in_place" and (self.pieces_per_utterance > 1 or self.session_effects):
            raise ValueError("pieces_per_utterance and session_effects need storage: packed")
        return self

    def recordings(self, report: Report) -> tuple[Path, Iterable[Recording]]:
        """The source's folder (absolute), and all recordings below it, in any order."""

    def facts(self) -> dict[str, str]:
        """source, version, licence and population of the corpus (see `hygiene`)."""

    def trial_lists(self, recordings: Iterable[Recording]) -> Mapping[str, TrialList]:
        """The lists asked for, or all pairs of each split that is tested."""
        if self.trials is not None:
            return self.trials
        splits = {row.split for row in recordings} & {"dev", "test"}
        return {split: TrialList(recipe="all_pairs", split=split) for split in sorted(splits)}

    def decisive(self) -> dict[str, Any]:
        """The settings that decide the samples of a list of recordings."""
        return self.model_dump(mode="json", include=DECISIVE)


def _read_splits(path: Path, speakers: set[str], report: Report) -> dict[str, str]:
    splits: dict[str, str] = {}
    for where, row in read_rows(path, ("speaker", "split"), report):
        speaker, split = row["speaker"], row["split"]
        if split not in SPLITS:
            report.problem(where, f"{where}: split {split!r} is not one of {', '.join(SPLITS)}.")
        elif splits.get(speaker, split) != split:
            report.problem(where, f"{where}: speaker {speaker!r} is in two splits.")
        elif speaker not in speakers:
            report.problem(where, f"{where}: speaker {speaker!r} has no recordings.")
        else:
            splits[speaker] = split
    return splits


def selected(
    recordings: Iterable[Recording], splits: Splits | None, report: Report
) -> list[Recording]:
    """Those recordings that make the corpus, ordered by id, with their files' sizes and times.

    Parameters
    ----------
    recordings : iterable of Recording
    splits : Splits or None
        None: the recordings' own split; where none has any, a draw: see `_default_splits`.
    report : Report
        Collects missing files, ids that occur twice, and speakers of two spellings.

    Raises
    ------
    StudyError
        For each problem, unless the report keeps going.
    """
    kept: dict[str, Recording] = {}
    spellings: dict[str, str] = {}
    for row in sorted(recordings, key=lambda row: row.id):
        try:
            row.id.encode()
            stat = row.path.stat()
        except UnicodeEncodeError:
            report.problem(name := ascii(str(row.path)), f"{name} has a name that is not UTF-8.")
            continue
        except OSError:
            report.problem(row.path, f"{row.path} is missing.")
            continue
        plain = unicodedata.normalize("NFKC", row.speaker).casefold()
        if (same := kept.get(row.id)) is not None:
            why = f"has the id {row.id!r}, as {same.path} has; ids must be unique"
            report.problem(row.path, f"{row.path} {why}.")
        elif (other := spellings.setdefault(plain, row.speaker)) != row.speaker:
            why = f"is of {row.speaker!r}, which only case or Unicode form tells from {other!r}"
            report.problem(row.path, f"{row.path} {why}.")
        else:
            kept[row.id] = replace(row, size=stat.st_size, changed=stat.st_mtime_ns)
    if splits is None:
        if any(row.split for row in kept.values()):
            return [replace(row, split=row.split or "train") for row in kept.values()]
        splits = _default_splits(len({row.speaker for row in kept.values()}))
    split_of = splits.assign((row.speaker for row in kept.values()), report)
    chosen = [row for row in kept.values() if row.speaker in split_of]
    if left_out := len(kept) - len(chosen):
        print(f"{left_out} recordings are of speakers whom {splits.file} does not name.")
    return [replace(row, split=split_of[row.speaker]) for row in chosen]


def _default_splits(n_speakers: int) -> Splits:
    """Who is tested where nobody said: all speakers if they are few, else a fifth."""
    few = n_speakers < ENOUGH_TO_TRAIN
    how = "all" if few else "a fifth (and a tenth for development)"
    print(f"No splits are set: of {n_speakers} speakers, {how} are for testing.")
    return Splits(test=1.0) if few else Splits(dev=0.1, test=0.2)


def word_of(name: str) -> int:
    """A 64-bit hash of a name: the seed of its own random generator."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def fingerprint(recordings: Sequence[Recording], root: Path) -> dict[str, int | str]:
    """Number and SHA-256 of the list: names, labels, sizes, places below the root."""
    digest = hashlib.sha256()
    for row in recordings:
        labels = (row.id, row.speaker, row.session, row.split, sorted(row.facts.items()))
        digest.update(f"{labels}\t{row.place(root)}\t{row.size}\n".encode())
    return {"count": len(recordings), "sha256": digest.hexdigest()}


def subfolders(root: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones."""
    try:
        with os.scandir(root) as entries:
            return sorted(each.name for each in entries if each.is_dir() and each.name[0] != ".")
    except OSError as error:
        raise StudyError(f"{root} cannot be read as a folder: {error.strerror}.") from None
