"""Files from the web: resumed, retried, checked, and renamed only when complete."""

import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from studylib.errors import StudyError
from studylib.files.atomic import atomic_folder
from studylib.files.checksums import sha256 as sha256_of
from studylib.files.disk import exclusive, explained_full_disk

ATTEMPTS = 6  # in a row, without any progress, before a download is given up
PAUSE_SECONDS = 1.0  # after the first failure; doubled after each further one
TIMEOUT_SECONDS = 30.0  # without an answer, after which a connection counts as lost
# A lost connection, as against a full disk, which is an OSError too.
NETWORK_ERRORS = (urllib.error.URLError, ConnectionError, TimeoutError, HTTPException)


def download(url: str, path: Path, sha256: str | None = None) -> Path:
    """Fetch a file, unless it is there; go on where an earlier attempt stopped.

    Partial content is in `<path>.part`, renamed when complete. Without a checksum the parts of two
    calls may belong to different files: then every call starts anew.

    Parameters
    ----------
    url : str
    path : Path
    sha256 : str or None
        In hexadecimal; a file that is there already is checked too.

    Raises
    ------
    StudyError
        If the server refuses, the connection is lost for good, the disk is full, or the file is
        not the expected one.
    """
    part = path.with_name(f"{path.name}.part")
    lock = exclusive(path.with_name(f"{path.name}.lock"))
    with lock, explained_full_disk(path.parent, "downloading"):
        if path.is_file():
            if sha256 is not None and sha256_of(path) != sha256:
                raise StudyError(f"{path} is not the expected file (SHA-256 {sha256}): delete it.")
            return path
        open(part, "ab" if sha256 else "wb").close()
        failures = 0
        while reason := _fetch(url, part, before := part.stat().st_size):
            failures = 1 if part.stat().st_size > before else failures + 1
            if failures >= ATTEMPTS:
                raise StudyError(f"{url} could not be downloaded ({reason}): run again to go on.")
            time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))
        if sha256 is not None and sha256_of(part) != sha256:
            part.unlink()
            raise StudyError(f"{url} gave another file than expected: its SHA-256 is not {sha256}.")
        part.replace(path)
    return path


def _fetch(url: str, part: Path, start: int) -> str | None:
    """One connection: append what is missing to the part; returns why it failed, None if whole."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            start *= answer.status == 206  # a server without ranges sends all again
            total = start + int(answer.headers.get("Content-Length", -start))  # 0: not known
            bar = {"desc": part.stem, "initial": start, "total": total or None, "mininterval": 0.5}
            with (
                open(part, "ab" if start else "wb") as file,
                tqdm.wrapattr(file, "write", disable=None, **bar) as counted,
            ):
                shutil.copyfileobj(answer, counted)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send; the checksum verifies it
            return None
        if error.code < 500 and error.code not in (408, 429):
            raise StudyError(f"{url}: the server says {error.code} {error.reason}.") from None
        return f"{error.code} {error.reason}"
    except NETWORK_ERRORS as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
    arrived = part.stat().st_size
    return f"the connection ended after {arrived} of {total} bytes" if arrived < total else None


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive into a new folder: all of it, or nothing.

    Raises
    ------
    StudyError
        If the archive is damaged, the disk is full, or a member would land outside the folder
        (`../`, absolute names, links to elsewhere) or is a device.
    """
    try:
        with explained_full_disk(folder.parent, "unpacking"), atomic_folder(folder) as partial:
            shutil.unpack_archive(archive, partial, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise StudyError(f"{archive} is refused: {error}.") from None
