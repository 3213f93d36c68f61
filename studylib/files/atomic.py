"""Files and folders that are written whole or not at all.

A file or folder is written under a temporary name beside its own, brought to the disk, and renamed.
A process killed at any instant leaves the old one or the new one.
"""

import contextlib
import ctypes
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studylib.errors import StudyError

PARTIAL = ".partial"  # ends the temporary name
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux's renameat2
_HERE = -100  # AT_FDCWD: paths are relative to the working directory


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; what is written there becomes `path` at a clean exit."""
    path = Path(path)
    partial = path.with_name(path.name + PARTIAL)
    try:
        yield partial
        _flush(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush(path.parent)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary, empty folder, which replaces `path` at a clean exit."""
    path = Path(path)
    partial = path.with_name(path.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for item in partial.rglob("*"):
            _flush(item)
        if path.exists():
            _exchange(partial, path)
        else:
            partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # after an exchange, the old folder
    _flush(path.parent)


def write_json(path: Path, document: Any) -> None:
    """Write a document as JSON. Numbers that are not finite raise ValueError."""
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """A JSON document; StudyError if the file is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise StudyError(f"{path} is damaged: {error}") from None


def _flush(path: Path) -> None:
    """Bring a file, or a folder's list of names, to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(first: Path, second: Path) -> None:
    """Exchange two folders: in one system call on Linux, elsewhere by two renames."""
    if sys.platform == "linux":
        renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        names = os.fsencode(first), os.fsencode(second)
        if renameat2 and renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0:
            return
    old = second.with_name(second.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    second.rename(old)
    first.rename(second)
    old.rename(first)
