"""Audio files of any kind -> 16 kHz mono int16 samples.

A file's samples are those that `decode` returns, whether packed or read again from the file.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soxr

from studylib.corpora.store import SAMPLE_RATE
from studylib.errors import StudyError
from studylib.files.sound import check_waveform, open_sound, read_sound

MP4_SUFFIXES = (".m4a", ".mp4", ".aac")  # decoded by FFmpeg's libraries, which PyAV contains
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", *MP4_SUFFIXES)
# From the middle of a compressed file with losses a decoder need not give the same samples.
IN_PLACE_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "FLAC")
QUIETEST = 16  # steps of 16 bits between the lowest and the highest sample


def audio_files(folder: str | Path, note: Callable[[str], None] = lambda _: None) -> Iterator[str]:
    """Paths of all audio files below a folder, except hidden ones; each folder is read once.

    `note` is given a sentence on each link that repeats a folder or leaves the tree.
    """
    base = os.path.realpath(folder)
    seen = {str(parent) for parent in Path(base).parents}
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (place := os.path.realpath(parent)) in seen:
            note(f"{parent} is a link to {place}, whose recordings are read once.")
            folders.clear()
            continue
        if os.path.islink(parent) and not place.startswith(f"{base}{os.sep}"):
            note(f"{parent} is a link out of the tree, to {place}: its recordings are taken.")
        seen.add(place)
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in names:
            if name.lower().endswith(SUFFIXES) and name[0] != ".":
                yield os.path.join(parent, name)


def decode(path: Path, minimum_seconds: float = 0.05) -> np.ndarray:
    """Read a whole file: channels averaged, resampled to 16 kHz (soxr, high quality), rounded.

    Parameters
    ----------
    path : Path
        wav, flac, ogg, opus or mp3 (read by libsndfile), m4a, mp4 or aac (by FFmpeg's libraries).
    minimum_seconds : float
        A shorter file is refused.

    Returns
    -------
    (S,) int16

    Raises
    ------
    StudyError
        If the file cannot be decoded to its end, is silent, or as `sound.check_waveform`.
    """
    read = _read_mp4 if path.suffix.lower() in MP4_SUFFIXES else read_sound
    waveform, rate = read(path)
    check_waveform(waveform, rate, path, minimum_seconds)
    mono = waveform[:, 0] if waveform.shape[1] == 1 else waveform.mean(axis=1)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    samples = np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16)
    if int(samples.max()) - int(samples.min()) < QUIETEST:
        raise StudyError(f"{path} holds nothing but silence, at a resolution of 16 bits.")
    return samples


def check_in_place(path: Path) -> None:
    """Raise StudyError unless a part of this file, read alone, equals that part of `decode`."""
    kind: tuple = (path.suffix,)
    if path.suffix.lower() not in MP4_SUFFIXES:
        with open_sound(path) as file:
            kind = (file.format, file.samplerate, file.channels, file.subtype)
    if kind[0] not in IN_PLACE_FORMATS or kind[1:] != (SAMPLE_RATE, 1, "PCM_16"):
        raise StudyError(
            f"{path} cannot stay in place {kind}: expected wav or flac of {SAMPLE_RATE} Hz, one "
            "channel and 16 bits, or set storage: packed."
        )


def _read_mp4(path: Path) -> tuple[np.ndarray, int]:
    """As `read_sound`, of the first audio stream."""
    import av  # late: 40 MB of libraries that only these files need

    try:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            to_float = av.AudioResampler(format="fltp")
            frames = [
                part.to_ndarray()
                for frame in (*container.decode(stream), None)  # None: flush the decoder
                for part in to_float.resample(frame)
            ]
            seconds = float((stream.duration or 0) * stream.time_base)
            rate = stream.rate
    except (av.FFmpegError, IndexError) as error:
        reason = getattr(error, "strerror", None) or "it holds no sound"
        raise StudyError(f"{path} cannot be decoded: {reason}.") from None
    waveform = np.concatenate(frames, axis=1).T if frames else np.empty((0, 1), np.float32)
    if len(waveform) < seconds * rate - 4096:  # an AAC frame has 1024, or 2048 at twice the rate
        raise StudyError(f"{path} is truncated: it ends before it should.")
    return waveform, rate
