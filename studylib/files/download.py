"""Files from the web: resumed, retried, checked, and never half there under their own name."""

import shutil
import ssl
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from studylib.errors import StudyError
from studylib.files.checksums import sha256 as sha256_of
from studylib.files.disk import exclusive, explained_full_disk

BLOCK = 1 << 18
PAUSE_SECONDS = 1.0
# A lost connection, as against a full disk, which is an OSError too.
NETWORK_ERRORS = (urllib.error.URLError, ConnectionError, TimeoutError, ssl.SSLError, HTTPException)


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
    two halves may belong to different files: then every call starts anew.

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
    lock = path.with_name(f"{path.name}.lock")
    with exclusive(lock), explained_full_disk(path.parent, "downloading"):
        if path.is_file():
            if sha256 is not None and sha256_of(path) != sha256:
                raise StudyError(f"{path} is not the expected file (SHA-256 {sha256}): delete it.")
            return path
        if sha256 is None:
            part.unlink(missing_ok=True)
        failures = 0
        while reason := _fetch(url, part, timeout, progress, before := _size(part)):
            failures = 1 if _size(part) > before else failures + 1
            if failures >= attempts:
                raise StudyError(
                    f"{url} could not be downloaded ({reason}); what has arrived is kept in "
                    f"{part}, run again to go on."
                )
            time.sleep(min(PAUSE_SECONDS * 2 ** (failures - 1), 30.0))
        if sha256 is not None and sha256_of(part) != sha256:
            part.unlink()
            raise StudyError(f"{url} gave another file than expected: its SHA-256 is not {sha256}.")
        part.replace(path)
    return path


def _fetch(url: str, part: Path, timeout: float, progress: bool, start: int) -> str | None:
    """One connection: append what is missing to the part; returns why it failed, None if whole."""
    headers = {"User-Agent": "studylib"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            start = start if answer.status == 206 else 0
            length = answer.headers.get("Content-Length")
            total = start + int(length) if length is not None else None
            with tqdm.wrapattr(
                open(part, "ab" if start else "wb"), "write",
                desc=part.stem, initial=start, total=total, mininterval=0.5, disable=not progress,
            ) as file:  # fmt: skip
                shutil.copyfileobj(answer, file, BLOCK)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send; the checksum tells whether that is so
            return None
        if error.code < 500 and error.code not in (408, 429):
            raise StudyError(f"{url}: the server says {error.code} {error.reason}.") from None
        return f"{error.code} {error.reason}"
    except NETWORK_ERRORS as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
    if total is not None and _size(part) < total:
        return f"the connection ended after {_size(part)} of {total} bytes"
    return None


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
            explained_full_disk(folder.parent, f"unpacking {archive.name}"),
            tarfile.open(archive) as tar,
        ):
            tar.extractall(partial, filter="data")
        partial.rename(folder)
    except tarfile.FilterError as error:
        raise StudyError(f"{archive} is refused: {error}.") from None
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise StudyError(f"{archive} is damaged: {error}.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
