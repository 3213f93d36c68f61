"""The embedded corpus: synthetic speakers, made on the spot, offline, the same bits every time.

A speaker is a voice drawn at random (`voices`), which says random sentences (`sentences`) through
a speech synthesizer (`synthesis`); every session has its own room, microphone and noise
(`session`). It is no substitute for people, but it exists on every machine, its truth is known,
and its difficulty can be set.

Every random choice has its own generator, derived from the seed, the split, the number of the
speaker and the purpose: speaker 7 of the training split is the same however many there are.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from studylib.corpus.disk import exclusive, full_disk_told
from studylib.corpus.parallel import cores, in_order
from studylib.corpus.reader import SAMPLE_RATE
from studylib.corpus.sentences import draw_sentence
from studylib.corpus.session import PRESETS, Session, apply_session, draw_session
from studylib.corpus.store import SPLITS, Corpus, Utterance, write_corpus
from studylib.corpus.synthesis import Speaker, engine_version, speaking
from studylib.corpus.trials import all_pairs, same_sex
from studylib.corpus.voices import Voice, draw_voice
from studylib.errors import StudyError

RECIPE = "1"  # counts up whenever the same settings give other bits
LICENCE = (
    "Synthetic speech, made on this machine with eSpeak NG (a program under GPL-3.0-or-later); "
    "no person was recorded."
)
CLEAN = "clean"  # the preset without session effects

# What the generators of a speaker are for; a number here must never change its meaning.
VOICE, TEXT, SESSION, NOISE = range(4)

# A voice is drawn again if it is fainter than this, or clipped more often than this.
FAINTEST_RMS = 0.005
MOST_CLIPPED = 0.001
AUDITION = "The quick brown fox jumps over the lazy dog, and then it sleeps."


@dataclass(frozen=True)
class EmbeddedSettings:
    """What an embedded corpus consists of.

    Attributes
    ----------
    n_train_speakers, n_dev_speakers, n_test_speakers : int
    train_utterances, dev_utterances, test_utterances : int
        Of each speaker.
    seconds : float
        About how long an utterance is: 0.9 to 1.2 times this.
    utterances_per_session : int
        1: every utterance is its own session.
    preset : str
        How far sessions differ: clean, mild, mid or hard.
    seed : int
    """

    n_train_speakers: int = 350
    train_utterances: int = 12
    n_dev_speakers: int = 50
    dev_utterances: int = 10
    n_test_speakers: int = 50
    test_utterances: int = 10
    seconds: float = 5.0
    utterances_per_session: int = 1
    preset: str = "mid"
    seed: int = 0

    def __post_init__(self):
        if self.preset not in (CLEAN, *PRESETS):
            known = ", ".join((CLEAN, *PRESETS))
            raise StudyError(f"embedded: preset {self.preset!r} is not one of {known}.")
        for name in KEYS - {"preset"}:
            value = getattr(self, name)
            wanted = (int, float) if name == "seconds" else (int,)
            if type(value) not in wanted:
                kind = "number" if name == "seconds" else "whole number"
                raise StudyError(f"embedded: {name} must be a {kind}, not {value!r}.")
            if value < 0 or (value == 0 and name != "seed"):
                limit = "0 or more" if name == "seed" else "positive"
                raise StudyError(f"embedded: {name} must be {limit}, not {value}.")

    def n_speakers(self, split: str) -> int:
        return getattr(self, f"n_{split}_speakers")

    def n_utterances(self, split: str) -> int:
        """Utterances of each speaker of a split."""
        return getattr(self, f"{split}_utterances")


KEYS = {field.name for field in fields(EmbeddedSettings)}

SIZES: dict[str, EmbeddedSettings] = {
    "tests": EmbeddedSettings(32, 6, 16, 6, 16, 6),
    "study": EmbeddedSettings(),
    "gpu": EmbeddedSettings(1_200, 20, 100, 10, 100, 10),
}


@dataclass(frozen=True)
class Recording:
    """One utterance with everything that went into it.

    Attributes
    ----------
    voice : Voice
    text : str
    clean : (S,) float32
        What the synthesizer said, full scale 1.
    session : Session
    samples : (S,) int16
        What the session made of it: this is what a corpus holds.
    """

    voice: Voice
    text: str
    clean: np.ndarray = field(repr=False)
    session: Session
    samples: np.ndarray = field(repr=False)


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
    if isinstance(settings, Mapping):
        if unknown := set(settings) - KEYS:
            known = ", ".join(sorted(KEYS))
            raise StudyError(f"embedded: unknown key {min(unknown)!r} (known: {known}).")
        settings = EmbeddedSettings(**settings)
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
    with exclusive(lock), full_disk_told(folder.parent, "making a corpus"):
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


def synthesize(
    settings: EmbeddedSettings, split: str, number: int, n_utterances: int
) -> list[Recording]:
    """The first utterances of one speaker, clean and as recorded: the bits of the corpus."""
    voice, spoken = _speak(settings, split, number, n_utterances)
    recordings = []
    for position, (text, clean) in enumerate(spoken):
        session = _session(settings, split, number, position)
        noise = _generator(settings, split, number, NOISE, position)
        samples = apply_session(_to_int16(clean), session, noise)
        recordings.append(Recording(voice, text, clean, session, samples))
    return recordings


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


def _speak(
    settings: EmbeddedSettings, split: str, number: int, n_utterances: int
) -> tuple[Voice, list[tuple[str, np.ndarray]]]:
    """Draw voices until one is fit to hear, and let it speak."""
    generator = _generator(settings, split, number, VOICE, 0)
    while True:
        voice = draw_voice("fm"[number % 2], generator)
        with speaking(voice, seed=int(generator.integers(2**31))) as speaker:
            if not _is_fit(speaker.speak(AUDITION)):
                continue
            return voice, [
                _say(speaker, settings.seconds, _generator(settings, split, number, TEXT, position))
                for position in range(n_utterances)
            ]


def _is_fit(speech: np.ndarray) -> bool:
    if len(speech) < SAMPLE_RATE:
        return False
    rms = np.sqrt(np.mean(np.square(speech, dtype=np.float64)))
    return bool(rms >= FAINTEST_RMS and np.mean(np.abs(speech) >= 0.999) <= MOST_CLIPPED)


def _say(speaker: Speaker, seconds: float, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Sentences until the time is over; the length says nothing about the speaker."""
    length = round(rng.uniform(0.9, 1.2) * seconds * SAMPLE_RATE)
    rate = 1 + 0.06 * rng.uniform(-1, 1)
    pitch = float(np.clip(rng.normal(50, 4), 0, 100))
    pitch_range = float(np.clip(rng.normal(50, 12), 0, 100))
    texts, parts = [], []
    while sum(map(len, parts)) < length:
        texts.append(draw_sentence(rng))
        parts.append(speaker.speak(texts[-1], rate, pitch, pitch_range))
    return " ".join(texts), np.concatenate(parts)[:length]


def _session(settings: EmbeddedSettings, split: str, number: int, position: int) -> Session:
    if settings.preset == CLEAN:
        return Session()
    session = position // settings.utterances_per_session
    generator = _generator(settings, split, number, SESSION, session)
    return draw_session(PRESETS[settings.preset], generator)


def _generator(
    settings: EmbeddedSettings, split: str, number: int, purpose: int, position: int
) -> np.random.Generator:
    key = (SPLITS.index(split), number, purpose, position)
    return np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=key))


def _to_int16(waveform: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(waveform * 32768), -32768, 32767).astype(np.int16)
