"""The way of every real source: recordings listed -> decoded -> written as a corpus.

Sources differ only in how they list their recordings (`folder`, `librispeech`, `voxceleb`).
"""

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from tqdm import tqdm

from studylib.corpus.disk import exclusive, full_disk_told
from studylib.corpus.hygiene import lonely_speakers
from studylib.corpus.lists import TrialList, make_trials
from studylib.corpus.parallel import cores
from studylib.corpus.recordings import Recording, fingerprint, place, selected, table_of
from studylib.corpus.report import Report
from studylib.corpus.shards import Decoding, Shard, decode_shards, plan_shards
from studylib.corpus.splits import Splits
from studylib.corpus.store import Corpus, Utterance, UtteranceFile, write_corpus
from studylib.errors import StudyError


class PreparationSettings(BaseModel):
    """What all sources share.

    Attributes
    ----------
    storage : str
        packed (all samples in one file) or in_place (the source's files stay where they are and
        are read in part: 16-kHz mono 16-bit wav and flac only). The samples are the same.
    splits : Splits or None
        None: as the source has them.
    trials : mapping of TrialList
        None: all pairs of dev and of test, where they have speakers.
    max_utterances_per_speaker : int or None
        Which files stay is drawn at random.
    pieces_per_utterance : int
        Cut each file into so many utterances: speakers with one file then give target trials.
    session_effects : str or None
        Add a room, a microphone and noise (mild, mid, hard), drawn for each utterance, which then
        is a session of its own.
    minimum_seconds : float
        Shorter utterances are refused.
    seed : int
        Of all that is drawn here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    # Keys that say where things lie: no part of what a corpus is.
    places: ClassVar[frozenset[str]] = frozenset({"trials"})

    storage: Literal["packed", "in_place"] = "packed"
    splits: Splits | None = None
    trials: dict[str, TrialList] | None = None
    max_utterances_per_speaker: int | None = Field(default=None, ge=1)
    pieces_per_utterance: int = Field(default=1, ge=1)
    session_effects: Literal["mild", "mid", "hard"] | None = None
    minimum_seconds: float = Field(default=0.5, ge=0.05)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _in_place_as_is(self) -> "PreparationSettings":
        if self.storage == "in_place" and (self.pieces_per_utterance > 1 or self.session_effects):
            raise ValueError(
                "storage: in_place keeps files as they are, but pieces_per_utterance and "
                "session_effects need storage: packed"
            )
        return self

    def table(self, recordings: Iterable[Recording]) -> pd.DataFrame:
        """One row for each utterance that the recordings will give."""
        own_sessions = self.session_effects is not None
        return table_of(recordings, self.pieces_per_utterance, own_sessions)

    def trial_lists(self, recordings: Iterable[Recording]) -> dict[str, TrialList]:
        """The lists asked for, or all pairs of each split that is tested."""
        if self.trials is not None:
            return self.trials
        splits = {row.split for row in recordings} & {"dev", "test"}
        return {split: TrialList(recipe="all_pairs", split=split) for split in sorted(splits)}

    def content(self) -> dict[str, Any]:
        """What is kept with the corpus, and must agree for a corpus to be the same."""
        left_out = dict.fromkeys(self.places, True) | {"splits": {"file": True}}
        return self.model_dump(mode="json", exclude=left_out)

    def decoding(self) -> Decoding:
        return Decoding(
            pieces=self.pieces_per_utterance,
            minimum_seconds=self.minimum_seconds,
            session_effects=self.session_effects,
            in_place=self.storage == "in_place",
            seed=self.seed,
        )


def validated(model: type[BaseModel], settings: BaseModel | Mapping[str, Any], source: str) -> Any:
    """Settings of a source, checked; StudyError names the key that is wrong."""
    if isinstance(settings, model):
        return settings
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = ", ".join(sorted(model.model_fields))
            raise StudyError(f"{source}: unknown key {key!r} (known: {known}).") from None
        message = problem["msg"].removeprefix("Value error, ")
        raise StudyError(f"{source}: {key + ': ' if key else ''}{message}.") from None


def prepare_recordings(
    recordings: Iterable[Recording],
    root: Path,
    settings: PreparationSettings,
    folder: Path,
    *,
    facts: Mapping[str, str],
    report: Report,
    workers: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Corpus:
    """Decode recordings and write them as a corpus, ordered by id.

    A preparation that was stopped goes on where it was; what it writes depends neither on that
    nor on the number of workers. A second process that prepares the same folder waits, and then
    opens what the first has made. What is left out is listed in `<folder>.skipped.csv`.

    Parameters
    ----------
    recordings : iterable of Recording
    root : Path
        Absolute; the recordings lie below it.
    settings : PreparationSettings
    folder : Path
        Of the corpus.
    facts : mapping
        source, version, licence and population of the corpus (see `hygiene.known_speakers`).
    report : Report
    workers : int
        Threads; as many as there are cores if None.
    progress : bool
        Show a bar on the standard error stream.
    overwrite : bool
        Replace another corpus in this folder.

    Raises
    ------
    StudyError
        For the first thing that is wrong, unless the report keeps going.
    """
    folder = Path(folder)
    with exclusive(folder.with_name(f"{folder.name}.lock")):
        recordings = selected(
            recordings, settings.splits, settings.max_utterances_per_speaker, settings.seed, report
        )
        lists = settings.trial_lists(recordings)
        description = dict(facts) | {
            "settings": settings.content(),
            "trial_lists": {name: trial_list.identity() for name, trial_list in lists.items()},
            "files": fingerprint(recordings, root),
        }
        if folder.exists() and not overwrite:
            return _write(folder, (), {}, description, settings, root)
        # Faults of the trial lists show now, and not after hours of decoding.
        _with_trials(recordings, lists, settings, Report(report.keep_going))
        with full_disk_told(folder.parent, "preparing a corpus"):
            shards, lengths = _decoded(recordings, settings, folder, report, workers, progress)
            kept = [row for row in recordings if row.id in lengths]
            kept, trials = _with_trials(kept, lists, settings, report)
            report.write(folder.with_name(f"{folder.name}.skipped.csv"))
            description["skipped"] = len(report.skipped)
            if settings.storage == "in_place":
                utterances = _files(kept, lengths, root)
            else:
                utterances = _utterances(kept, lengths, shards, settings)
            corpus = _write(folder, utterances, trials, description, settings, root, overwrite)
            shutil.rmtree(_decoded_folder(folder))
            return corpus


def _write(folder, utterances, trials, description, settings, root, overwrite=False) -> Corpus:
    return write_corpus(
        folder,
        utterances,
        trials=trials,
        description=description,
        root=root if settings.storage == "in_place" else None,
        overwrite=overwrite,
    )


def _with_trials(
    recordings: list[Recording],
    lists: Mapping[str, TrialList],
    settings: PreparationSettings,
    report: Report,
) -> tuple[list[Recording], dict[str, pd.DataFrame]]:
    """The trial lists, and the recordings without those speakers who give no trials."""
    if not recordings:
        raise StudyError("No recordings are left to make a corpus of.")
    lonely = set(lonely_speakers(settings.table(recordings), lists, report))
    kept = [row for row in recordings if row.speaker not in lonely]
    return kept, make_trials(lists, settings.table(kept), report)


def _decoded(
    recordings: list[Recording],
    settings: PreparationSettings,
    folder: Path,
    report: Report,
    workers: int | None,
    progress: bool,
) -> tuple[list[Shard], dict[str, list[int]]]:
    """Decode all; returns the shards, and the lengths of the utterances of each good recording."""
    decoding = settings.decoding()
    shards = plan_shards(recordings, decoding, _decoded_folder(folder))
    _decoded_folder(folder).mkdir(exist_ok=True)
    # Where there is no terminal, every update is a line of its own.
    every = 0.5 if sys.stderr.isatty() else 15.0
    lengths: dict[str, list[int]] = {}
    with tqdm(
        total=len(recordings), unit="files", desc="Decoding", mininterval=every,
        disable=not progress,
    ) as bar:  # fmt: skip
        results = decode_shards(
            shards, decoding, workers=workers or cores(), keep_going=report.keep_going
        )
        for shard, (found, problems) in zip(shards, results, strict=True):
            for name, path, own, problem in zip(
                shard.ids, shard.paths, found, problems, strict=True
            ):
                if problem:
                    report.problem(str(path), problem)
                else:
                    lengths[name] = own
            bar.update(len(shard.ids))
    return shards, lengths


def _utterances(
    recordings: list[Recording],
    lengths: Mapping[str, list[int]],
    shards: Iterable[Shard],
    settings: PreparationSettings,
) -> Iterator[Utterance]:
    """The samples, shard by shard, each removed once it is passed on: the disk holds them once."""
    known = {row.id: row for row in recordings}
    for shard in shards:
        stored = shard.read()
        if stored is None:
            raise StudyError(f"{shard.file} has been changed; prepare the corpus again.")
        position = 0
        for name in shard.ids:
            if name not in lengths:
                continue
            ends = position + np.cumsum(lengths[name])
            pieces = np.split(stored[2][position : ends[-1]], ends[:-1] - position)
            position = int(ends[-1])
            if name in known:
                row = known[name]
                own_sessions = settings.session_effects is not None
                labels = row.pieces(len(pieces), own_sessions)
                for (piece_name, session), samples in zip(labels, pieces, strict=True):
                    yield Utterance(piece_name, row.speaker, session, row.split, samples, row.facts)
        shard.file.unlink()


def _files(
    recordings: list[Recording], lengths: Mapping[str, list[int]], root: Path
) -> Iterator[UtteranceFile]:
    for row in recordings:
        yield UtteranceFile(
            row.id, row.speaker, row.session, row.split, place(row, root), lengths[row.id][0],
            row.facts,
        )  # fmt: skip


def _decoded_folder(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.decoded")
