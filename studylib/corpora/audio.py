"""Audio files of any kind -> 16 kHz mono int16 samples.

A file's samples are those that `decode` returns, whether packed or read again from the file.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from studylib.corpora.store import SAMPLE_RATE
from studylib.errors import StudyError

MP4_SUFFIXES = (".m4a", ".mp4", ".aac")  # decoded by FFmpeg's libraries, which PyAV contains
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", *MP4_SUFFIXES)
# From the middle of a compressed file with losses a decoder need not give the same samples.
IN_PLACE_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "FLAC")
RATES = (4_000, 768_000)  # Hz, lowest and highest of a file
MOST_CLIPPED = 0.01  # share of samples beyond full scale, where decoders may overshoot
QUIETEST = 16  # steps of 16 bits between the lowest and the highest sample
LONGEST_OGG_PAGE = 65_307  # bytes


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
        If the file cannot be decoded to its end, is silent or too short, has samples that are not
        numbers or lie beyond full scale, or a rate outside `RATES`.
    """
    read = _read_mp4 if path.suffix.lower() in MP4_SUFFIXES else _read_sound
    waveform, rate, is_cut = read(path)
    if is_cut:
        raise StudyError(f"{path} is truncated: it ends before it should.")
    if not RATES[0] <= rate <= RATES[1]:
        raise StudyError(f"{path} has {rate:,} Hz; expected {RATES[0]:,} to {RATES[1]:,} Hz.")
    if not np.isfinite(waveform).all():
        raise StudyError(f"{path} has samples that are not finite numbers (NaN or infinite).")
    seconds = len(waveform) / rate
    if seconds < minimum_seconds:
        raise StudyError(f"{path} lasts {seconds:.3f} s; expected {minimum_seconds:g} s or more.")
    beyond = np.mean(np.abs(waveform) > 1)
    if beyond > MOST_CLIPPED:
        raise StudyError(
            f"{path} has {100 * beyond:.0f} % of its samples beyond full scale; expected numbers "
            "from -1 to 1."
        )
    mono = waveform[:, 0] if waveform.shape[1] == 1 else waveform.mean(axis=1)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    samples = np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16)
    if int(samples.max()) - int(samples.min()) < QUIETEST:
        raise StudyError(f"{path} holds nothing but silence, at a resolution of 16 bits.")
    return samples


def check_in_place(path: Path) -> None:
    """Raise StudyError unless a part of this file, read alone, equals that part of `decode`."""
    found = f"a {path.suffix} file"
    if path.suffix.lower() not in MP4_SUFFIXES:
        with _open(path) as file:
            kind = (file.samplerate, file.channels, file.subtype)
            if kind == (SAMPLE_RATE, 1, "PCM_16") and file.format in IN_PLACE_FORMATS:
                return
            found = f"{kind[0]} Hz, {kind[1]} channel(s), {kind[2]} in {file.format}"
    raise StudyError(
        f"{path} cannot stay in place ({found}): only 16-kHz mono 16-bit wav and flac files can; "
        "set storage: packed."
    )


def _open(path: Path) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise StudyError(f"{path} cannot be read as audio: {error.error_string}") from None


def _read_sound(path: Path) -> tuple[np.ndarray, int, bool]:
    """Waveform (S, channels) float32, rate in Hz, and whether the file is truncated."""
    with _open(path) as file:
        try:
            waveform = file.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise StudyError(f"{path} is damaged: {error.error_string}") from None
        is_cut = len(waveform) < file.frames or _is_cut(file.extra_info)
        is_cut |= file.format == "OGG" and _is_cut_ogg(path)
        return waveform, file.samplerate, is_cut


def _read_mp4(path: Path) -> tuple[np.ndarray, int, bool]:
    """As `_read_sound`, of the first audio stream."""
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
    # An AAC frame has 1024 samples, or 2048 at twice the rate.
    return waveform, rate, len(waveform) < seconds * rate - 4096


def _is_cut(log: str) -> bool:
    # libsndfile reads a wav file whose end is missing without complaint, but notes it in its log.
    # A program that writes wav to a pipe sets all bits of the length: the file is not damaged.
    found = re.search(r"^\s*data : (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    return bool(found) and int(found[2]) < int(found[1]) < 0x7FFFF000


def _is_cut_ogg(path: Path) -> bool:
    """Whether the last page of an Ogg file is incomplete, or not marked as the last."""
    with open(path, "rb") as file:
        file.seek(-min(LONGEST_OGG_PAGE, path.stat().st_size), os.SEEK_END)
        page = file.read().rpartition(b"OggS")[2]
    # After "OggS": version, flags (4: the last page), 20 more bytes, number of segments, lengths.
    head = page[:23] + page[23 : 23 + page[22]] if len(page) > 22 else page
    return len(page) < 23 or not page[1] & 4 or len(page) < len(head) + sum(head[23:])
