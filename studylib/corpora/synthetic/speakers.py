"""Synthetic speakers: a voice that is fit to hear, what it says, and the sessions it is heard in.

Every random choice has its own generator, derived from the seed, the split, the number of the
speaker and the purpose: speaker 7 of the training split is the same however many there are.
"""

from dataclasses import dataclass, field

import numpy as np

from studylib.corpora.acoustics import PRESETS, Session, apply_session, draw_session
from studylib.corpora.store import SAMPLE_RATE, SPLITS
from studylib.corpora.synthetic.sentences import draw_sentence
from studylib.corpora.synthetic.settings import CLEAN, EmbeddedSettings
from studylib.corpora.synthetic.synthesis import Speaker, speaking
from studylib.corpora.synthetic.voices import Voice, draw_voice

# What the generators of a speaker are for; a number here must never change its meaning.
VOICE, TEXT, SESSION, NOISE = range(4)

# A voice is drawn again if it is fainter than this, or clipped more often than this.
FAINTEST_RMS = 0.005
MOST_CLIPPED = 0.001
AUDITION = "The quick brown fox jumps over the lazy dog, and then it sleeps."


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
