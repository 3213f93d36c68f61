"""The embedded corpus: synthetic speakers, made on the spot, offline, the same bits every time.

A speaker (`speakers`) is a voice drawn at random (`voices`), which speaks random sentences
(`sentences`) through a speech synthesizer (`synthesis`); every session has its own room,
microphone and noise (`corpora.acoustics`). It is no substitute for people, but it exists on every
machine, its speakers are known, and its difficulty can be set.
"""

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from studylib.corpora.store import SPLITS, Corpus
from studylib.corpora.synthetic.helpers import make_speakers
from studylib.corpora.synthetic.settings import EmbeddedSettings
from studylib.corpora.synthetic.synthesis import engine_version
from studylib.corpora.trials import all_pairs, same_sex
from studylib.corpora.writing import Utterance, write_corpus
from studylib.files.cores import usable_cores
from studylib.files.disk import exclusive, explained_full_disk
from studylib.files.documents import validated

RECIPE = "3"  # raised whenever the same settings give other bits
LICENCE = (
    "Synthetic speech, made on this machine with eSpeak NG (a program under GPL-3.0-or-later); "
    "no person was recorded."
)


def prepare(
    settings: EmbeddedSettings | Mapping[str, Any],
    folder: Path,
    *,
    workers: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Corpus:
    """Make the corpus in a folder, unless it is there already; a second process waits.

    Trial lists: `dev` and `test` hold all pairs, `dev_same_sex` and `test_same_sex` those of
    speakers of one sex.

    Parameters
    ----------
    settings : EmbeddedSettings, or a mapping of its keys
    folder : Path
    workers : int
        Processes; as many as there are cores if None. The bits do not depend on it.
    progress : bool
        Show a bar with rate and remaining time on the standard error stream.
    overwrite : bool
        Replace another corpus in this folder.

    Raises
    ------
    StudyError
        If a setting is wrong, the synthesizer is missing, or the folder contains something else.
    """
    settings = validated(EmbeddedSettings, settings, "embedded")
    description = {
        "source": "embedded",
        "version": f"recipe {RECIPE}, {engine_version()}",
        "settings": settings.model_dump(),
        "licence": LICENCE,
    }
    trials = {
        f"{split}{suffix}": partial(recipe, split=split)
        for split in ("dev", "test")
        for suffix, recipe in (("", all_pairs), ("_same_sex", same_sex))
    }
    folder = Path(folder)
    lock = folder.with_name(f"{folder.name}.lock")
    with exclusive(lock), explained_full_disk(folder.parent, "making a corpus"):
        return write_corpus(
            folder,
            utterances(settings, workers=workers, progress=progress),
            trials=trials,
            description=description,
            overwrite=overwrite,
        )


def utterances(
    settings: EmbeddedSettings, *, workers: int | None = None, progress: bool = True
) -> Iterator[Utterance]:
    """All utterances, split by split and speaker by speaker, made in parallel."""
    jobs = [(split, number) for split in SPLITS for number in range(settings.n_speakers(split))]
    total = sum(settings.n_utterances(split) for split, _ in jobs)
    # Where there is no terminal, every update is a line of its own.
    every = 0.5 if sys.stderr.isatty() else 15.0
    bar = tqdm(
        total=total, unit="utterances", desc="Speaking", mininterval=every, disable=not progress
    )
    with bar:
        for made in make_speakers(settings, jobs, min(workers or usable_cores(), len(jobs))):
            yield from made
            bar.update(len(made))
