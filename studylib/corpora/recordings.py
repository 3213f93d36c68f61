"""The list of a source's recordings, before any is decoded: read, checked, split, thinned out."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from studylib.corpora.report import Report, read_rows
from studylib.corpora.store import SPLITS
from studylib.errors import StudyError
from studylib.files.documents import Section

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

    def pieces(self, n: int, own_sessions: bool) -> list[tuple[str, str]]:
        """Id and session of each of the n utterances that the recording is cut into."""
        names = [self.id] if n == 1 else [f"{self.id}#{number}" for number in range(1, n + 1)]
        return [(name, name if own_sessions else self.session) for name in names]


class Splits(Section):
    """How speakers are split; no speaker is ever in two splits.

    Attributes
    ----------
    train, dev, test : int or float
        A number of speakers (int) or a share of them (float); without `train`, all the rest.
    seed : int
        Of the draw.
    file : Path
        Instead of a draw, a table with the columns speaker and split; speakers that it does not
        name are left out.
    """

    train: Amount | None = None
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
        counts = {
            split: amount if isinstance(amount, int) else round(amount * len(speakers))
            for split, amount in (("test", self.test), ("dev", self.dev), ("train", self.train))
            if amount is not None
        }
        rest = len(speakers) - sum(counts.values())
        if rest < 0:
            asked = " + ".join(str(counts.get(split, 0)) for split in SPLITS)
            raise StudyError(
                f"The splits ask for {asked} speakers ({', '.join(SPLITS)}), but there are "
                f"{len(speakers)}."
            )
        names = [split for split, count in counts.items() for _ in range(count)]
        names += ["train"] * rest if self.train is None else []
        order = np.random.default_rng(self.seed).permutation(len(speakers))
        return {speakers[place]: name for place, name in zip(order, names, strict=False)}


def _read_splits(path: Path, speakers: set[str], report: Report) -> dict[str, str]:
    splits: dict[str, str] = {}
    for line, row in read_rows(path, ("speaker", "split"), report):
        where, speaker, split = f"{path}, line {line}", row["speaker"], row["split"]
        if split not in SPLITS:
            report.problem(where, f"{where}: split {split!r} is not one of {', '.join(SPLITS)}.")
        elif splits.get(speaker, split) != split:
            report.problem(where, f"{where}: speaker {speaker!r} is in two splits.")
        elif speaker not in speakers:
            report.problem(where, f"{where}: speaker {speaker!r} has no recordings.")
        else:
            splits[speaker] = split
    return splits


def select_recordings(
    recordings: Iterable[Recording],
    splits: Splits | None,
    max_per_speaker: int | None,
    seed: int,
    report: Report,
) -> list[Recording]:
    """Those recordings that make the corpus, ordered by id.

    Parameters
    ----------
    recordings : iterable of Recording
    splits : Splits or None
        None: as the recordings have it, else `train`.
    max_per_speaker : int or None
        The recordings that stay are drawn anew for each speaker.
    seed : int
    report : Report
        Collects missing files, and ids and files that occur twice.

    Raises
    ------
    StudyError
        If nothing is left, or (unless the report keeps going) for each problem.
    """
    kept = _checked(sorted(recordings, key=lambda row: row.id), report)
    if splits is not None:
        split_of = splits.assign((row.speaker for row in kept), report)
        kept = [
            replace(row, split=split_of[row.speaker]) for row in kept if row.speaker in split_of
        ]
    kept = [row if row.split else replace(row, split="train") for row in kept]
    if max_per_speaker is not None:
        kept = _thinned(kept, max_per_speaker, seed)
    if not kept:
        raise StudyError("No recordings are left to make a corpus of.")
    return kept


def _checked(recordings: Iterable[Recording], report: Report) -> list[Recording]:
    """The recordings whose id and file are there, once; with the files' sizes and times."""
    kept, files = {}, {}
    for row in recordings:
        try:
            stat = row.path.stat()
        except OSError:
            report.problem(row.path, f"{row.path} is missing.")
            continue
        twin = files.setdefault((stat.st_dev, stat.st_ino or row.id), row)  # 0: no such number
        if (same := kept.get(row.id)) is not None:
            why = f"has the id {row.id!r}, as {same.path} has; ids must be unique"
            report.problem(row.path, f"{row.path} {why}.")
        elif twin is not row and twin.speaker != row.speaker:
            why = f"is the same file as {twin.path}, of another speaker"
            report.problem(row.path, f"{row.path} {why}.")
        else:
            kept[row.id] = replace(row, size=stat.st_size, changed=stat.st_mtime_ns)
    return list(kept.values())


def _thinned(recordings: list[Recording], n: int, seed: int) -> list[Recording]:
    kept = []
    by_speaker = sorted(recordings, key=lambda row: row.speaker)
    for speaker, group in groupby(by_speaker, key=lambda row: row.speaker):
        own = list(group)
        order = np.random.default_rng([seed, word_of(speaker)]).permutation(len(own))
        kept += [own[place] for place in order[:n]]
    return sorted(kept, key=lambda row: row.id)


def word_of(name: str) -> int:
    """A number of 64 bits that stands for a name, so that what is drawn for it is its own."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def place(recording: Recording, root: Path) -> str:
    """Path of a recording, relative to the root if it lies below."""
    # Plain strings: pathlib's own way is ten times slower, and there may be a million files.
    path, prefix = str(recording.path), f"{root}{os.sep}"
    return path.removeprefix(prefix).replace(os.sep, "/") if path.startswith(prefix) else path


def fingerprint(recordings: Iterable[Recording], root: Path) -> dict[str, int | str]:
    """Number and SHA-256 of the list: names, labels, sizes, places below the root."""
    digest, count = hashlib.sha256(), 0
    for row in recordings:
        labels = (row.id, row.speaker, row.session, row.split, sorted(row.facts.items()))
        digest.update(f"{labels}\t{place(row, root)}\t{row.size}\n".encode())
        count += 1
    return {"count": count, "sha256": digest.hexdigest()}


def subfolders(root: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones."""
    try:
        with os.scandir(root) as entries:
            return sorted(
                entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."
            )
    except OSError as error:
        raise StudyError(f"{root} cannot be read as a folder: {error.strerror}.") from None
