"""Voices: random speakers for the synthesizer.

A voice is a file of the synthesizer's own format, so nothing but its text reaches the engine. All
distributions are named here. They are wider than people's, by choice: a network trained on them
errs less on recorded speech (see LOG.md).
"""

from dataclasses import dataclass

import numpy as np

# The engine's own language files, whose lines define an accent: vowels, rules of pronunciation,
# lengths and strengths of stress.
ACCENTS = (
    "en",
    "en-029",
    "en-GB-scotland",
    "en-GB-x-gbclan",
    "en-GB-x-gbcwmd",
    "en-GB-x-rp",
    "en-US",
    "en-US-nyc",
)

# Of a speaker's median fundamental frequency: mean, Hz, and standard deviation of its logarithm.
F0 = {"m": (112.0, 0.28), "f": (195.0, 0.22)}
# Top of the engine's range of pitch over its bottom: lowest and highest value.
PITCH_RANGE = (1.10, 1.75)
# Where in that range, from bottom 0 to top 1, the median comes out.
MEDIAN_IN_RANGE = 0.7
# Scale common to all formants: mean (women's vocal tracts are shorter) and standard deviation.
FORMANT_SCALE = {"m": (0.98, 0.08), "f": (1.10, 0.08)}
# Standard deviation of each formant's own deviation from that scale: lowest and highest value.
FORMANT_JITTER = (0.06, 0.12)
# Standard deviation of what is added to formants 1 to 3, Hz.
FORMANT_SHIFT = (15, 60, 60)
# Heights of formants 0 to 5 and 6 to 8, and widths, per cent of the engine's.
FORMANT_HEIGHT, HIGH_FORMANT_HEIGHT, FORMANT_WIDTH = (35, 125), (0, 120), (65, 175)
# Standard deviation of the logarithm of the vocal tract's warp.
WARP = 0.10
WORDS_PER_MINUTE = (125, 195)
# Amplitudes of the tone curve's points, of voicing and of consonants, per cent of the engine's.
TONE, VOICING, CONSONANTS = (40, 220), (75, 125), (45, 135)
# The engine's unsteadiness of pitch: below these whole numbers.
FLUTTER, ROUGHNESS = 15, 5
# Share of speakers with the Klatt source, and of the others, with breath.
KLATT_CHANCE, BREATH_CHANCE = 0.25, 0.40
# Standard deviation of what is added to the eight degrees of stress.
STRESS = 14


@dataclass(frozen=True)
class Voice:
    """One speaker.

    Attributes
    ----------
    sex, accent : str
        "f" or "m"; one of ACCENTS.
    f0 : float
        Median fundamental frequency, Hz.
    words_per_minute : float
        How fast the speaker talks.
    warp : float
        Stretch of the whole spectrum, about 1: the speech is played this much faster, and the
        synthesizer speaks lower and slower by as much, so that only the vocal tract changes.
    lines : tuple of str
        The lines of the voice file that are this speaker's own (those of the accent come first).
    """

    sex: str
    accent: str
    f0: float
    words_per_minute: float
    warp: float
    lines: tuple[str, ...]


def draw_voice(sex: str, rng: np.random.Generator) -> Voice:
    """Draw a voice of one sex ("f" or "m")."""
    accent = ACCENTS[rng.integers(len(ACCENTS))]
    mean, spread = F0[sex]
    # Rounded, because processors differ in the last digit of exp, and corpora list the numbers.
    f0 = round(mean * float(np.exp(rng.normal(0, spread))), 3)
    warp = round(float(np.exp(rng.normal(0, WARP))), 5)
    widening = rng.uniform(*PITCH_RANGE)
    bottom = f0 / (1 + MEDIAN_IN_RANGE * (widening - 1)) / warp
    lines = (
        f"gender {'female' if sex == 'f' else 'male'}",
        f"pitch {bottom:.0f} {bottom * widening:.0f}",
        *_formants(sex, rng),
        *_source(rng),
        "stressAdd " + _numbers(rng.normal(0, STRESS, 8)),
        f"intonation {rng.integers(1, 5)}",
    )
    return Voice(sex, accent, f0, rng.uniform(*WORDS_PER_MINUTE), warp, lines)


def _formants(sex: str, rng: np.random.Generator) -> list[str]:
    """Frequency, height and width (per cent of the engine's) of formants 0 to 8, and Hz added."""
    scale = rng.normal(*FORMANT_SCALE[sex])
    frequency = 100 * scale * (1 + rng.normal(0, rng.uniform(*FORMANT_JITTER, 9)))
    height = [*rng.uniform(*FORMANT_HEIGHT, 6), *rng.uniform(*HIGH_FORMANT_HEIGHT, 3)]
    width = rng.uniform(*FORMANT_WIDTH, 9)
    added = [0, *rng.normal(0, FORMANT_SHIFT), *[0] * 5]
    return [
        f"formant {number} " + _numbers(values)
        for number, values in enumerate(zip(frequency, height, width, added, strict=True))
    ]


def _source(rng: np.random.Generator) -> list[str]:
    """Tone, strength of voicing and consonants, unsteadiness, and the kind of the source."""
    points = np.sort(rng.uniform(200, 5500, 5))  # Hz
    tone = np.stack([points, rng.uniform(*TONE, 5)], axis=1).ravel()
    lines = [
        "tone " + _numbers(tone),
        f"voicing {rng.uniform(*VOICING):.0f}",
        "consonants " + _numbers(rng.uniform(*CONSONANTS, 2)),
        f"flutter {rng.integers(FLUTTER)}",
        f"roughness {rng.integers(ROUGHNESS)}",
    ]
    # Breath and the Klatt source are never combined: together they are not repeatable.
    if rng.random() < KLATT_CHANCE:
        lines.append(f"klatt {rng.integers(1, 6)}")
    elif rng.random() < BREATH_CHANCE:
        lines.append("breath " + _numbers(rng.uniform(0, 25, 8)))
    return lines


def _numbers(values) -> str:
    return " ".join(f"{value:.0f}" for value in values)
