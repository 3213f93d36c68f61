"""Synthetic speakers: an audible voice, its sentences, and the sessions they are recorded in.

Every random choice has its own generator, derived from the seed, the split, the number of the
speaker and the purpose: speaker 7 of the training split is the same in corpora of all sizes.
"""

from dataclasses import dataclass, field

import numpy as np

from studylib.corpora.acoustics import PRESETS, Session, apply_session, draw_session, to_int16
from studylib.corpora.store import SAMPLE_RATE, SPLITS
from studylib.corpora.synthetic.sentences import draw_sentence
from studylib.corpora.synthetic.settings import EmbeddedSettings
from studylib.corpora.synthetic.synthesis import Speaker, speaking
from studylib.corpora.synthetic.voices import Voice, draw_voice
from studylib.corpora.writing import Utterance

# What the generators of a speaker are for; a number here must never change its meaning.
VOICE, TEXT, SESSION, NOISE = range(4)

# A voice is drawn again if it is fainter than this, or clipped more often than this.
FAINTEST_RMS = 0.005
MOST_CLIPPED = 0.001
AUDITION = "The quick brown fox jumps over the lazy dog."
# Of one utterance: rate times 1 +- this; mean and standard deviation of the engine's pitch, range.
RATE_SPREAD, PITCH, PITCH_RANGE = 0.20, (50, 9), (50, 12)


@dataclass(frozen=True)
class Recording:
    """One utterance with everything that it was made of.

    Attributes
    ----------
    voice : Voice
    text : str
    clean : (S,) float32
        The synthesizer's output, full scale 1.
    session : Session
    samples : (S,) int16
        The output after the session's effects; these are in the corpus.
    """

    voice: Voice
    text: str
    clean: np.ndarray = field(repr=False)
    session: Session
    samples: np.ndarray = field(repr=False)


def synthesize(
    settings: EmbeddedSettings, split: str, number: int, n_utterances: int
) -> list[Recording]:
    """The first utterances of one speaker, clean and with session effects, as in the corpus."""

    def generator(purpose: int, position: int = 0) -> np.random.Generator:
        key = (SPLITS.index(split), number, purpose, position)
        return np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=key))

    rng = generator(VOICE)
    spoken: list[tuple[str, np.ndarray]] = []
    while not spoken:
        voice = draw_voice("fm"[number % 2], rng)
        with speaking(voice, seed=int(rng.integers(2**31))) as speaker:
            if _is_audible(speaker.speak(AUDITION)):
                for position in range(n_utterances):
                    spoken.append(_utterance(speaker, settings.seconds, generator(TEXT, position)))
    recordings = []
    for position, (text, clean) in enumerate(spoken):
        session = Session()
        if settings.preset != "clean":
            rng = generator(SESSION, position // settings.utterances_per_session)
            session = draw_session(PRESETS[settings.preset], rng)
        samples = apply_session(to_int16(clean), session, generator(NOISE, position))
        recordings.append(Recording(voice, text, clean, session, samples))
    return recordings


def utterances_of(settings: EmbeddedSettings, split: str, number: int) -> list[Utterance]:
    """All utterances of one speaker, as a corpus stores them."""
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
    numbers = {name: getattr(voice, name) for name in ("f0", "words_per_minute")}
    for name in ("snr", "reverberation", "high_pass", "low_pass", "level"):
        value = getattr(session, name)
        numbers[name] = np.nan if value is None else value
    return {"sex": voice.sex, "accent": voice.accent, **numbers, "text": recording.text}


def _is_audible(speech: np.ndarray) -> bool:
    if len(speech) < SAMPLE_RATE:
        return False
    rms = np.sqrt(np.mean(np.square(speech, dtype=np.float64)))
    return bool(rms >= FAINTEST_RMS and np.mean(np.abs(speech) >= 0.999) <= MOST_CLIPPED)


def _utterance(
    speaker: Speaker, seconds: float, rng: np.random.Generator
) -> tuple[str, np.ndarray]:
    """Sentences up to a length drawn at random, which carries no information on the speaker."""
    length = round(rng.uniform(0.9, 1.2) * seconds * SAMPLE_RATE)
    rate = 1 + RATE_SPREAD * rng.uniform(-1, 1)
    pitch, pitch_range = (
        float(np.clip(rng.normal(*spread), 0, 100)) for spread in (PITCH, PITCH_RANGE)
    )
    texts, parts = [], []
    while sum(map(len, parts)) < length:
        texts.append(draw_sentence(rng))
        parts.append(speaker.speak(texts[-1], rate, pitch, pitch_range))
    return " ".join(texts), np.concatenate(parts)[:length]
