"""Every source of recordings: recordings listed -> decoded -> written as a corpus.

Sources (`folder`, `librispeech`, `voxceleb`) differ only in how they list their recordings: each is
a class of settings that lists them.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
from pydantic import Field, model_validator

from studylib.corpora.decoding import Decoding, decode_recordings
from studylib.corpora.parallel import cores
from studylib.corpora.recordings import Recording, Splits, fingerprint, place, select_recordings
from studylib.corpora.report import Report
from studylib.corpora.store import COLUMNS, Corpus, skipped_file
from studylib.corpora.trials import TrialList, make_trials
from studylib.corpora.writing import find_written, write_corpus
from studylib.errors import StudyError
from studylib.files.disk import exclusive, explained_full_disk
from studylib.files.documents import Name, Section


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
    max_utterances_per_speaker : int or None
        The files that stay are drawn at random.
    pieces_per_utterance : int
        Cut each file into so many utterances: speakers with one file then give target trials.
    session_effects : str or None
        Add a room, a microphone and noise (mild, mid, hard), drawn for each utterance, which then
        is a session of its own.
    minimum_seconds : float
        Shorter utterances are refused.
    keep_going : bool
        Skip what is wrong, and list it, instead of stopping at the first.
    seed : int
        Of all that is drawn here.
    """

    # Keys that a corpus does not depend on: paths, and how problems are reported.
    places: ClassVar[frozenset[str]] = frozenset({"trials", "keep_going"})

    storage: Literal["packed", "in_place"] = "packed"
    splits: Splits | None = None
    trials: dict[Name, TrialList] | None = None
    max_utterances_per_speaker: int | None = Field(default=None, ge=1)
    pieces_per_utterance: int = Field(default=1, ge=1)
    session_effects: Literal["mild", "mid", "hard"] | None = None
    minimum_seconds: float = Field(default=0.5, ge=0.05)
    keep_going: bool = False
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _in_place_as_is(self) -> "PreparationSettings":
        if self.storage == "in_place" and (self.pieces_per_utterance > 1 or self.session_effects):
            raise ValueError(
                "storage: in_place keeps files as they are, but pieces_per_utterance and "
                "session_effects need storage: packed"
            )
        return self

    def recordings(self, report: Report, progress: bool) -> tuple[Path, Iterable[Recording]]:
        """The source's folder (absolute), and all recordings below it, in any order."""
        raise NotImplementedError

    def facts(self) -> dict[str, str]:
        """source, version, licence and population of the corpus (see `hygiene`)."""
        raise NotImplementedError

    def trial_lists(self, recordings: Iterable[Recording]) -> Mapping[str, TrialList]:
        """The lists asked for, or all pairs of each split that is tested."""
        if self.trials is not None:
            return self.trials
        splits = {row.split for row in recordings} & {"dev", "test"}
        return {split: TrialList(recipe="all_pairs", split=split) for split in sorted(splits)}

    def content(self) -> dict[str, Any]:
        """The settings that a corpus depends on, to be kept with it."""
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


def prepare(
    settings: PreparationSettings,
    folder: Path,
    *,
    workers: int | None = None,
    progress: bool = True,
    keep_going: bool = False,
    overwrite: bool = False,
) -> Corpus:
    """Decode a source's recordings and write them as a corpus, ordered by id.

    A preparation that was stopped goes on where it was; what it writes depends neither on that
    nor on the number of workers. A second process that prepares the same folder waits, and then
    opens what the first has made. What is left out is listed in `<folder>.skipped.csv`.

    Parameters
    ----------
    settings : PreparationSettings
        Of a source.
    folder : Path
        Of the corpus.
    workers : int
        Threads; as many as there are cores if None.
    progress : bool
        Show a bar on the standard error stream.
    keep_going : bool
        As the setting of this name.
    overwrite : bool
        Replace another corpus in this folder.

    Raises
    ------
    StudyError
        For the first thing that is wrong, unless it keeps going.
    """
    folder = Path(folder)
    report = Report(keep_going or settings.keep_going)
    root, listed = settings.recordings(report, progress)
    lock = folder.with_name(f"{folder.name}.lock")
    with exclusive(lock), explained_full_disk(folder.parent, "preparing a corpus"):
        recordings = select_recordings(
            listed, settings.splits, settings.max_utterances_per_speaker, settings.seed, report
        )
        lists = settings.trial_lists(recordings)
        description = settings.facts() | {
            "settings": settings.content(),
            "trial_lists": {name: trial_list.identity() for name, trial_list in lists.items()},
            "recordings": fingerprint(recordings, root),
        }
        in_place = settings.storage == "in_place"
        if in_place:
            description["root"] = str(root)
        if found := find_written(folder, description, overwrite):
            return found
        # Faults of the trial lists show now, and not after hours of decoding.
        _with_trials(_table(recordings, settings, None, None), lists, Report(report.keep_going))
        decoded = folder.with_name(f"{folder.name}.decoded")
        lengths = decode_recordings(
            recordings,
            settings.decoding(),
            decoded,
            report,
            workers=workers or cores(),
            progress=progress,
        )
        kept = [row for row in recordings if row.id in lengths]
        table = _table(kept, settings, lengths, root)
        table, trials = _with_trials(table, lists, report)
        report.write(skipped_file(folder))
        corpus = write_corpus(
            folder,
            table,
            trials=trials,
            description=description | {"skipped": len(report.skipped)},
            audio=None if in_place else decoded / "audio.i16",
            overwrite=overwrite,
        )
        shutil.rmtree(decoded)
        return corpus


def _table(
    recordings: Sequence[Recording],
    settings: PreparationSettings,
    lengths: Mapping[str, Sequence[int]] | None,
    root: Path | None,
) -> pd.DataFrame:
    """The table of utterances, in the order of the audio; lengths are 0 while they are unknown."""
    rows, facts, position = [], [], 0
    for row in recordings:
        own = [0] * settings.pieces_per_utterance if lengths is None else lengths[row.id]
        names = row.pieces(len(own), settings.session_effects is not None)
        for (name, session), length in zip(names, own, strict=True):
            rows.append((name, row.speaker, session, row.split, position, length))
            facts.append(row.facts)
            position += length
    table = pd.DataFrame.from_records(rows, columns=COLUMNS)
    if settings.storage == "in_place" and root is not None:
        table["start"] = 0
        table["path"] = [place(row, root) for row in recordings]
    return pd.concat([table, pd.DataFrame.from_records(facts)], axis=1)


def _with_trials(
    table: pd.DataFrame, lists: Mapping[str, TrialList], report: Report
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The table without those speakers who give no target trials, and the trial lists."""
    splits = {trial_list.split for trial_list in lists.values() if trial_list.recipe}
    counts = table.loc[table["split"].isin(splits), "speaker"].value_counts()
    lonely = sorted(counts.index[counts < 2])
    for speaker in lonely:
        report.problem(
            f"speaker {speaker}",
            f"Speaker {speaker!r} has one utterance, but target trials need two: "
            "add recordings, or cut each into pieces (pieces_per_utterance: 2).",
        )
    table = table[~table["speaker"].isin(lonely)].reset_index(drop=True)
    if table.empty:
        raise StudyError("No recordings are left to make a corpus of.")
    return table, make_trials(lists, table, report)
