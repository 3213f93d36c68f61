"""Files from the web: resumed, retried, checked, and never half there under their own name."""

import http.client
import shutil
import ssl
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path

from tqdm import tqdm

from studylib.corpora.reader import sha256 as sha256_of
from studylib.errors import StudyError
from studylib.files.disk import exclusive, free_space, full_disk_told

BLOCK = 1 << 18
PAUSE_SECONDS = 1.0
# A lost connection, as against a full disk, which is an OSError too.
NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    attempts: int = 6,
    timeout: float = 30.0,
    progress: bool = True,
) -> Path:
    """Fetch a file, unless it is there; go on where an earlier attempt stopped.

    What has arrived lies in `<path>.part`, which is renamed when it is whole. Without a checksum
    nothing tells whether two halves belong together: then every call starts anew.

    Parameters
    ----------
    url : str
        http or https.
    path : Path
    sha256 : str or None
        In hexadecimal; a file that is there already is checked too.
    attempts : int
        How often in a row a connection may fail without any progress.
    timeout : float
        Seconds without an answer after which a connection counts as lost.

    Raises
    ------
    StudyError
        If the server refuses, the connection is lost for good, the disk is full, or the file is
        not the expected one.
    """
    if not url.startswith(("http://", "https://")):
        raise StudyError(f"{url!r} is no address to download from: expected http:// or https://.")
    part = path.with_name(f"{path.name}.part")
    with exclusive(path.with_name(f"{path.name}.lock")), full_disk_told(path.parent, "downloading"):
        if path.is_file():
            if sha256 is not None and sha256_of(path) != sha256:
                raise StudyError(f"{path} is not the expected file (SHA-256 {sha256}): delete it.")
            return path
        if sha256 is None:
            part.unlink(missing_ok=True)
        _fetch_all(url, part, attempts, timeout, progress)
        if sha256 is not None and sha256_of(part) != sha256:
            part.unlink()
            raise StudyError(f"{url} gave another file than expected: its SHA-256 is not {sha256}.")
        part.replace(path)
    return path


def _fetch_all(url: str, part: Path, attempts: int, timeout: float, progress: bool) -> None:
    failures = 0
    while True:
        before = _size(part)
        try:
            _fetch(url, part, timeout, progress)
            return
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise StudyError(f"{url}: the server says {error.code} {error.reason}.") from None
            reason = f"{error.code} {error.reason}"
        except NETWORK_ERRORS as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
        failures = 1 if _size(part) > before else failures + 1
        if failures >= attempts:
            raise StudyError(
                f"{url} could not be downloaded ({reason}); what has arrived is kept in {part}, "
                "run again to go on."
            )
        time.sleep(min(PAUSE_SECONDS * 2 ** (failures - 1), 30.0))


def _fetch(url: str, part: Path, timeout: float, progress: bool) -> None:
    """One connection: append what is missing to the part."""
    start = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "studylib"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing is left to send; the checksum tells whether the part is what it should be.
        if error.headers.get("Content-Range", "").endswith(f"/{start}"):
            return
        part.unlink()
        raise http.client.HTTPException("the file has changed on the server") from None
    with answer:
        resumed = answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if start and not (answer.status == 206 and resumed):
            start = 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        _check_space(part, total, start)
        with (
            open(part, "ab" if start else "wb") as file,
            tqdm(
                desc=part.stem, initial=start, total=total, unit="B", unit_scale=True,
                mininterval=0.5, disable=not progress,
            ) as bar,
        ):  # fmt: skip
            while block := answer.read(BLOCK):
                file.write(block)
                bar.update(len(block))
    if total is not None and _size(part) < total:
        raise http.client.HTTPException(
            f"the connection ended after {_size(part)} of {total} bytes"
        )


def _check_space(part: Path, total: int | None, start: int) -> None:
    if total is not None and total - start > shutil.disk_usage(part.parent).free:
        raise StudyError(
            f"The disk is full: {part.stem} needs {(total - start) / 1e9:.1f} GB more in "
            f"{part.parent}, {free_space(part.parent)} free."
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive into a new folder: all of it, or nothing.

    Members that would land outside the folder (`../`, absolute names, links to elsewhere) and
    devices are refused.

    Raises
    ------
    StudyError
        If a member is refused, the archive is damaged, or the disk is full.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with (
            full_disk_told(folder.parent, f"unpacking {archive.name}"),
            tarfile.open(archive) as tar,
        ):
            tar.extractall(partial, filter="data")
        partial.rename(folder)
    except tarfile.FilterError as error:
        raise StudyError(f"{archive} is refused: {error}.") from None
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise StudyError(f"{archive} cannot be unpacked: {error.strerror}.") from None
        raise StudyError(f"{archive} is damaged: {error}.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
