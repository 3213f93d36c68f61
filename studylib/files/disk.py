"""Locks between processes, and the error of a full disk."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from studylib.errors import StudyError


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; a second process waits until the first ends.

    The operating system keeps the lock, so a killed process leaves none behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process works on {path.stem}; waiting for it.", file=sys.stderr)
        lock.acquire(poll_interval=0.2)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps a file that is open
            path.unlink()  # while held: a process that has opened it sees that it was removed
        lock.release()


@contextmanager
def explained_full_disk(folder: Path, doing: str) -> Iterator[None]:
    """Turn a full disk (or quota, or largest file size) into a StudyError that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise StudyError(
            f"The disk is full, or a file too large for its limits: {doing} in {folder}; "
            "make room and run again, what is done is kept."
        ) from None
