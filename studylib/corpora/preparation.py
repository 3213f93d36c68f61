"""The way of every real source: recordings listed -> decoded -> written as a corpus.

Sources differ only in how they list their recordings (`folder`, `librispeech`, `voxceleb`).
"""

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from studylib.corpora.hygiene import lonely_speakers
from studylib.corpora.lists import TrialList, make_trials
from studylib.corpora.parallel import cores
from studylib.corpora.recordings import Recording, fingerprint, place, selected
from studylib.corpora.report import Report, skipped_file
from studylib.corpora.settings import PreparationSettings
from studylib.corpora.shards import Shard, decode_shards, plan_shards
from studylib.corpora.store import Corpus, Utterance, UtteranceFile, find_written, write_corpus
from studylib.errors import StudyError
from studylib.files.disk import exclusive, full_disk_told


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
    _refuse_other_folders(folder)
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
        in_place = settings.storage == "in_place"
        found = find_written(folder, description, root if in_place else None)
        if found is not None and not found.description["skipped"]:
            return found
        # Faults of the trial lists show now, and not after hours of decoding.
        _with_trials(recordings, lists, settings, Report(report.keep_going))
        with full_disk_told(folder.parent, "preparing a corpus"):
            shards, lengths = _decoded(recordings, settings, folder, report, workers, progress)
            kept = [row for row in recordings if row.id in lengths]
            kept, trials = _with_trials(kept, lists, settings, report)
            report.write(skipped_file(folder))
            description["skipped"] = len(report.skipped)
            if in_place:
                utterances = _files(kept, lengths, root)
            else:
                utterances = _utterances(kept, lengths, shards, settings)
            corpus = _write(folder, utterances, trials, description, settings, root, overwrite)
            shutil.rmtree(_decoded_folder(folder))
            return corpus


def _refuse_other_folders(folder: Path) -> None:
    """A folder of anything but a corpus stays untouched, whatever else is asked for."""
    if folder.exists() and not (folder / "corpus.json").is_file():
        try:
            folder.rmdir()  # an empty one is no loss
        except OSError:
            raise StudyError(
                f"{folder} is there, and is not a corpus: choose another folder."
            ) from None


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
