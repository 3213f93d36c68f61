"""The speech synthesizer: eSpeak NG through its C interface, one private copy a speaker.

The engine keeps state between utterances (flutter, roughness) that no call resets, not even its
own Terminate and Initialize. A speaker therefore gets a fresh copy of the shared library and of
the few data files that English needs, in a temporary folder; both are removed after the speaker.
So a speaker's speech has the same bits, whichever speakers the process made before.

eSpeak NG (GPL-3.0-or-later) comes with the package espeakng_loader; it is run, not redistributed.
"""

import _ctypes
import ctypes
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soxr

from studylib.corpora.store import SAMPLE_RATE
from studylib.corpora.synthetic.voices import Voice
from studylib.errors import StudyError

ENGINE_RATE = 22_050
DATA_FILES = ("phontab", "phonindex", "phondata", "intonations", "en_dict")
ACCENT_KEYS = {"phonemes", "dictrules", "stressLength", "stressAmp", "stressAdd", "replace"}
VOICE_NAME = "speaker"  # the engine takes lower-case names only

# Constants of the engine's speak_lib.h.
SYNCHRONOUS = 2
DONT_EXIT = 0x8000
UTF8 = 1
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4
# Half of the engine's usual 100, so that loud voices do not clip.
ENGINE_VOLUME = 50

# int receive(short *samples, int count, espeak_EVENT *events)
Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class Speaker:
    """A voice in a running engine, made by `speaking`."""

    def __init__(self, engine: ctypes.CDLL, voice: Voice):
        self._engine = engine
        self._voice = voice
        self._chunks: list[bytes] = []
        self._callback = Callback(self._receive)  # the engine keeps no reference of its own
        engine.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, rate: float = 1.0, pitch: float = 50, pitch_range: float = 50):
        """Speak a text.

        Parameters
        ----------
        text : str
        rate : float
            Speed relative to the voice's own.
        pitch, pitch_range : float
            The engine's 0 to 100; 50 is the voice's own.

        Returns
        -------
        (S,) float32
            16 kHz, full scale 1.
        """
        words_per_minute = self._voice.words_per_minute * rate / self._voice.warp
        for parameter, value in (
            (RATE, words_per_minute),
            (VOLUME, ENGINE_VOLUME),
            (PITCH, pitch),
            (RANGE, pitch_range),
        ):
            self._engine.espeak_SetParameter(parameter, round(value), 0)
        self._chunks.clear()
        encoded = text.encode() + b"\0"
        size = ctypes.c_size_t(len(encoded))
        status = self._engine.espeak_Synth(encoded, size, 0, 1, 0, UTF8, None, None)
        if status != 0:
            raise RuntimeError(f"the synthesizer refused a text (status {status}): {text!r}")
        samples = np.frombuffer(b"".join(self._chunks), dtype=np.int16)
        # A rate raised by `warp` plays the speech faster. VHQ computes in float64 (HQ in float32),
        # so that its instructions, which depend on the processor, do not show in int16.
        rate = ENGINE_RATE * self._voice.warp
        return soxr.resample(np.float32(samples / 32768), rate, SAMPLE_RATE, quality="VHQ")

    def _receive(self, samples: int | None, count: int, events: int | None) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0


@contextmanager
def speaking(voice: Voice, seed: int) -> Iterator[Speaker]:
    """A speaker with a fresh engine; the same voice, seed and texts give the same bits.

    Raises
    ------
    StudyError
        If the synthesizer is not installed or does not run on this machine.
    """
    library, data = _installed()
    # Windows cannot delete a library that is still loaded: what is left there is 1.5 MB.
    with tempfile.TemporaryDirectory(prefix="studylib-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        _copy_engine(library, data, home)
        _write_voice(voice, data, home / data.name)
        engine = _load(home / library.name)
        try:
            rate = engine.espeak_Initialize(SYNCHRONOUS, 0, str(home).encode(), DONT_EXIT)
            if rate != ENGINE_RATE:
                raise StudyError(f"The synthesizer did not start (it answered {rate}).")
            speaker = Speaker(engine, voice)
            if engine.espeak_SetVoiceByName(VOICE_NAME.encode()) != 0:
                raise RuntimeError("the synthesizer refused a voice:\n" + "\n".join(voice.lines))
            _seed(engine, seed)
            yield speaker
        finally:
            engine.espeak_Terminate()
            _unload(engine)


def engine_version() -> str:
    """The version of the installed engine's package, which a corpus's identity includes."""
    _installed()
    return f"espeakng-loader {importlib.metadata.version('espeakng-loader')}"


def _installed() -> tuple[Path, Path]:
    """The engine's shared library and its folder of data."""
    try:
        import espeakng_loader

        return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
    except (ImportError, RuntimeError):
        raise StudyError(
            "The embedded corpus needs the package espeakng-loader (Linux with glibc on x86-64 or "
            "arm64, macOS, Windows), which is not installed here."
        ) from None


def _copy_engine(library: Path, data: Path, home: Path) -> None:
    shutil.copyfile(library, home / library.name)
    (home / data.name / "voices").mkdir(parents=True)
    (home / data.name / "lang").mkdir()
    for name in DATA_FILES:
        shutil.copyfile(data / name, home / data.name / name)


def _write_voice(voice: Voice, data: Path, target: Path) -> None:
    accent = (data / "lang" / "gmw" / voice.accent).read_text(encoding="utf-8").splitlines()
    accent = [line for line in accent if line.split(" ")[0] in ACCENT_KEYS]
    lines = [f"name {VOICE_NAME}", "language en-us", "phonemes en", *accent, *voice.lines]
    (target / "voices" / VOICE_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _load(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise StudyError(f"The synthesizer does not run on this platform: {error}.") from None


def _seed(engine: ctypes.CDLL, seed: int) -> None:
    engine.espeak_ng_SetRandSeed(ctypes.c_long(seed))
    if os.name == "posix":
        # One of its sources draws from the C library, which copies of the engine share.
        ctypes.CDLL(None).srand(ctypes.c_uint(seed))


def _unload(engine: ctypes.CDLL) -> None:
    close = _ctypes.dlclose if os.name == "posix" else _ctypes.FreeLibrary
    close(engine._handle)
