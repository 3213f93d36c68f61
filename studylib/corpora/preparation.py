"""Every source of recordings: recordings listed -> decoded -> written as a corpus.

Sources (`folder`, `librispeech`, `voxceleb`) differ only in how they list their recordings.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from studylib.corpora.decoding import decode_recordings
from studylib.corpora.recordings import PreparationSettings, Recording, fingerprint, selected
from studylib.corpora.report import Report
from studylib.corpora.store import COLUMNS, Corpus, skipped_file
from studylib.corpora.trials import TrialList, make_trials
from studylib.corpora.writing import check_utterances, find_written, write_corpus
from studylib.files.disk import exclusive, explained_full_disk


def prepare(settings: PreparationSettings, folder: Path, *, overwrite: bool = False) -> Corpus:
    """Decode a source's recordings and write them as a corpus, ordered by id.

    An interrupted preparation resumes, with the same result, on any number of cores. A second
    process preparing the same folder waits, then opens the first one's corpus. Recordings left
    out are listed in `<folder>.skipped.csv`.

    Parameters
    ----------
    settings : PreparationSettings
        Of a source.
    folder : Path
        Of the corpus.
    overwrite : bool
        Replace another corpus in this folder.

    Raises
    ------
    StudyError
        At the first problem, unless `settings.keep_going`.
    """
    report = Report(settings.keep_going)
    root, listed = settings.recordings(report)
    lock = exclusive(folder.with_name(f"{folder.name}.lock"))
    with lock, explained_full_disk(folder.parent, "preparing a corpus"):
        recordings = selected(listed, settings.splits, report)
        lists = settings.trial_lists(recordings)
        description = settings.facts() | {
            "settings": settings.decisive(),
            "trial_lists": {name: trial_list.identity() for name, trial_list in lists.items()},
            "recordings": fingerprint(recordings, root),
        }
        in_place = settings.storage == "in_place"
        if in_place:
            description["root"] = str(root)
        if found := find_written(folder, description, overwrite):
            return found
        # Check the table and the trial lists now, not after hours of decoding.
        unknown = {row.id: [0] * settings.pieces_per_utterance for row in recordings}
        check_utterances(table := _table(recordings, settings, unknown, root))
        _with_trials(table, lists, Report(settings.keep_going))
        decoded = folder.with_name(f"{folder.name}.decoded")
        lengths = decode_recordings(recordings, settings, decoded, report)
        table, trials = _with_trials(_table(recordings, settings, lengths, root), lists, report)
        report.write(skipped_file(folder))
        described = description | {"skipped": len(report.skipped)}
        given = {"trials": trials, "description": described, "overwrite": overwrite}
        audio = None if in_place else decoded / "audio.i16"
        corpus = write_corpus(folder, table, audio=audio, **given)
        shutil.rmtree(decoded)
        return corpus


def _table(
    recordings: Sequence[Recording],
    settings: PreparationSettings,
    lengths: Mapping[str, Sequence[int]],
    root: Path,
) -> pd.DataFrame:
    """The utterances of those recordings whose lengths are given, in the order of the audio."""
    rows, facts, position = [], [], 0
    for row in recordings:
        own = lengths.get(row.id, ())
        for number, length in enumerate(own, start=1):
            name = row.id if len(own) == 1 else f"{row.id}#{number}"
            session = name if settings.session_effects else row.session
            rows.append((name, row.speaker, session, row.split, position, length))
            facts.append(row.facts)
            position += length
    table = pd.DataFrame.from_records(rows, columns=COLUMNS)
    if settings.storage == "in_place":
        table["start"] = 0
        table["path"] = [row.place(root) for row in recordings if row.id in lengths]
    return pd.concat([table, pd.DataFrame.from_records(facts)], axis=1)


def _with_trials(
    table: pd.DataFrame, lists: Mapping[str, TrialList], report: Report
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The table without the speakers that have no target trials, and the trial lists."""
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
    return table, make_trials(lists, table, report)
