"""Audio files of any kind -> 16 kHz mono int16 samples.

One file has one meaning: the samples that `decode` returns, whether they are then packed or read
again from the file.
"""

import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import soxr

from studylib.corpora.reader import SAMPLE_RATE
from studylib.errors import StudyError

FFMPEG_SUFFIXES = (".m4a", ".mp4", ".aac")
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", *FFMPEG_SUFFIXES)
# From the middle of a compressed file with losses a decoder need not give the same samples.
IN_PLACE_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "FLAC")
LONGEST_OGG_PAGE = 65_307  # bytes


def is_audio(name: str) -> bool:
    """Whether the name of a file ends like an audio file (and the file is not hidden)."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def decode(path: Path, minimum_seconds: float = 0.0) -> np.ndarray:
    """Read a whole file: channels averaged, resampled to 16 kHz (soxr, high quality), rounded.

    Parameters
    ----------
    path : Path
        wav, flac, ogg, opus or mp3 (read by libsndfile), m4a, mp4 or aac (by the ffmpeg program).
    minimum_seconds : float
        A shorter file is refused.

    Returns
    -------
    (S,) int16

    Raises
    ------
    StudyError
        If the file cannot be decoded to its end, is empty, silent or too short, or has samples
        that are not numbers.
    """
    waveform, rate = read_waveform(path)
    if len(waveform) / rate < minimum_seconds:
        raise StudyError(
            f"{path} lasts {len(waveform) / rate:.3f} s; expected {minimum_seconds:g} s or more."
        )
    mono = waveform[:, 0] if waveform.shape[1] == 1 else waveform.mean(axis=1)
    if mono.min() == mono.max():
        raise StudyError(f"{path} holds nothing but silence.")
    mono = resample(mono, rate)
    return np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16)


def read_waveform(path: Path) -> tuple[np.ndarray, int]:
    """All samples of a file as they are: (S, channels) float32 with full scale 1, and Hz.

    Raises
    ------
    StudyError
        If the file cannot be decoded to its end, is empty, or has samples that are not numbers.
    """
    require_ffmpeg(path)
    needs_ffmpeg = path.suffix.lower() in FFMPEG_SUFFIXES
    with _open(_from_ffmpeg(path) if needs_ffmpeg else path, path) as file:
        try:
            waveform = file.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise StudyError(f"{path} is damaged: {_reason(error)}.") from None
        cut = file.format == "OGG" and _ends_within_a_page(path)
        if cut or len(waveform) < file.frames or _is_cut(file.extra_info):
            raise StudyError(f"{path} is truncated: it ends before it should.")
        rate = file.samplerate
    if not len(waveform):
        raise StudyError(f"{path} holds no samples.")
    if not np.isfinite(waveform).all():
        raise StudyError(f"{path} has samples that are not finite numbers (NaN or infinite).")
    return waveform, rate


def resample(mono: np.ndarray, rate: int) -> np.ndarray:
    """(S,) float32 at a rate in Hz -> 16 kHz."""
    return mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")


def check_in_place(path: Path) -> None:
    """Raise StudyError unless a part of this file, read alone, equals that part of `decode`."""
    if path.suffix.lower() not in FFMPEG_SUFFIXES:
        with _open(path, path) as file:
            if (
                file.samplerate == SAMPLE_RATE
                and file.channels == 1
                and file.subtype == "PCM_16"
                and file.format in IN_PLACE_FORMATS
                and file.seekable()
            ):
                return
            found = f"{file.samplerate} Hz, {file.channels} channel(s), {file.subtype}"
            found += f" in {file.format}"
    else:
        found = f"{path.suffix} file"
    raise StudyError(
        f"{path} cannot stay in place ({found}): only 16-kHz mono 16-bit wav and flac files can; "
        "set storage: packed."
    )


def require_ffmpeg(path: Path) -> None:
    """Raise StudyError if the file needs ffmpeg and this machine has none."""
    if path.suffix.lower() in FFMPEG_SUFFIXES and shutil.which("ffmpeg") is None:
        raise StudyError(
            f"{path} can be decoded only by the ffmpeg program, which is not on the PATH: "
            "install it (conda install ffmpeg, apt install ffmpeg, brew install ffmpeg)."
        )


def _open(source: Path | io.BytesIO, path: Path) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(source)
    except soundfile.LibsndfileError as error:
        if not path.is_file():
            raise StudyError(f"{path} is missing.") from None
        if not path.stat().st_size:
            raise StudyError(f"{path} is an empty file.") from None
        raise StudyError(f"{path} cannot be read as audio: {_reason(error)}.") from None


def _from_ffmpeg(path: Path) -> io.BytesIO:
    """The first audio stream of a file, in its own rate and channels, as an AU file in memory."""
    # AU, because its header may leave the length open, as it must in a pipe.
    command = ["ffmpeg", "-nostdin", "-v", "error", "-xerror", "-i", str(path)]
    command += ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no reason"]
        raise StudyError(f"{path} cannot be decoded by ffmpeg: {last[0].rstrip('.')}.")
    return io.BytesIO(done.stdout)


def _is_cut(log: str) -> bool:
    # libsndfile reads a wav file whose end is missing without complaint, but notes it in its log.
    # A length of all ones is how a program writes a wav file into a pipe: that is no damage.
    found = re.search(r"^\s*data : (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    return bool(found) and int(found[2]) < int(found[1]) < 0x7FFFF000


def _ends_within_a_page(path: Path) -> bool:
    """Whether an Ogg file (RFC 3533) is cut: libsndfile reads the part without complaint."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - LONGEST_OGG_PAGE))
        tail = file.read()
    _, mark, page = tail.rpartition(b"OggS")
    if not mark or len(page) < 23:
        return True
    segments = page[22]
    return len(page) < 23 + segments + sum(page[23 : 23 + segments])


def _reason(error: soundfile.LibsndfileError) -> str:
    return (error.error_string or "unknown error").rstrip(".")
