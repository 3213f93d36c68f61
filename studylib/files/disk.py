"""Two processes at one folder, and a disk that fills up."""

import errno
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from studylib.errors import StudyError


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; a second process waits until the first is done, or dead.

    The operating system keeps the lock, so a killed process leaves none behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        with open(path, "a+b") as file:
            if not _try_lock(file.fileno()):
                if not told:
                    print(f"Another process works on {path.stem}; waiting for it.", file=sys.stderr)
                told = True
                time.sleep(0.2)
                continue
            if not _is_still_there(file.fileno(), path):
                continue  # the one before us has removed the file that we opened
            try:
                yield
            finally:
                with suppress(OSError):  # Windows keeps a file that is open
                    path.unlink()
            return


def _try_lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_still_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


@contextmanager
def full_disk_told(folder: Path, doing: str) -> Iterator[None]:
    """Turn a full disk (or quota, or largest file size) into a StudyError that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise StudyError(
                f"A file has become too large: {doing} in {folder}, on a disk "
                "(or with a ulimit -f) that takes no larger ones; what is done is kept."
            ) from None
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StudyError(
            f"The disk is full: {doing} in {folder}, {free_space(folder)} free; "
            "make room and run again, what is done is kept."
        ) from None


def free_space(folder: Path) -> str:
    """Free space of the disk that the folder is (or will be) on."""
    while not folder.exists():
        folder = folder.parent
    return f"{shutil.disk_usage(folder).free / 1e9:.1f} GB"
