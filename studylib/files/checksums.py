"""Checksums of files and documents."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(document: Any) -> str:
    """The SHA-256 of a document of plain values."""
    text = json.dumps(document, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def changed_files(folder: Path, checksums: Mapping[str, str]) -> list[Path]:
    """The files of a folder, of those whose checksums are given, that are there and differ."""
    paths = {folder / name: expected for name, expected in checksums.items()}
    return [path for path, expected in paths.items() if path.exists() and sha256(path) != expected]
