"""The embedded corpus: synthetic speakers, made on the spot, offline, the same bits every time.

A speaker (`speakers`) is a voice drawn at random (`voices`), which says random sentences
(`sentences`) through a speech synthesizer (`synthesis`); every session has its own room,
microphone and noise (`session`). It is no substitute for people, but it exists on every machine,
its truth is known, and its difficulty can be set.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from studylib.corpora.parallel import cores, in_order
from studylib.corpora.store import SPLITS, Corpus
from studylib.corpora.synthetic.settings import SIZES, EmbeddedSettings, checked_settings
from studylib.corpora.synthetic.speakers import Recording, synthesize
from studylib.corpora.synthetic.synthesis import engine_version
from studylib.corpora.trials import all_pairs, same_sex
from studylib.corpora.writing import Utterance, write_corpus
from studylib.files.disk import exclusive, explained_full_disk

__all__ = ["SIZES", "EmbeddedSettings", "Recording", "prepare", "synthesize", "utterances"]

RECIPE = "1"  # counts up whenever the same settings give other bits
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
        If a setting is wrong, the synthesizer is missing, or the folder holds something else.
    """
    settings = checked_settings(settings)
    description = {
        "source": "embedded",
        "version": f"recipe {RECIPE}, {engine_version()}",
        "settings": asdict(settings),
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
    workers = min(workers or cores(), len(jobs))
    total = sum(settings.n_utterances(split) for split, _ in jobs)
    # Where there is no terminal, every update is a line of its own.
    every = 0.5 if sys.stderr.isatty() else 15.0
    bar = tqdm(
        total=total, unit="utterances", desc="Speaking", mininterval=every, disable=not progress
    )
    with bar:
        for made in in_order(partial(_speaker_utterances, settings), jobs, workers):
            yield from made
            bar.update(len(made))


def _speaker_utterances(settings: EmbeddedSettings, job: tuple[str, int]) -> list[Utterance]:
    split, number = job
    speaker = f"{split}-{number:04d}"
    recordings = synthesize(settings, split, number, settings.n_utterances(split))
    return [
        Utterance(
            id=f"{speaker}-{position:03d}",
            speaker=speaker,
            session=f"{speaker}-s{position // settings.utterances_per_session:03d}",
            split=split,
            samples=recording.samples,
            facts=_facts(recording),
        )
        for position, recording in enumerate(recordings)
    ]


def _facts(recording: Recording) -> dict[str, str | float]:
    voice, session = recording.voice, recording.session
    measured = {
        "f0": voice.f0,
        "words_per_minute": voice.words_per_minute,
        "snr": session.snr,
        "reverberation": session.reverberation,
        "high_pass": session.high_pass,
        "low_pass": session.low_pass,
        "level": session.level,
    }
    numbers = {name: np.nan if value is None else value for name, value in measured.items()}
    return {"sex": voice.sex, "accent": voice.accent, **numbers, "text": recording.text}
