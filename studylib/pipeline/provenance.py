"""Where a result comes from: settings, seed, versions, machine, and the source that made it."""

import ast
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from studylib.errors import StudyError

PACKAGE = Path(__file__).parent.parent
REPORTED = ("torch", "torchaudio", "numpy", "scipy", "pandas", "studylib")


def imported_files(file: Path, package: Path = PACKAGE) -> set[Path]:
    """A module and all modules of the package that it imports, directly or not."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path in found or not path.exists():
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("studylib"):
                module = package.joinpath(*node.module.split(".")[1:])
                waiting += [module.with_suffix(".py"), module / "__init__.py"]
                waiting += [module / f"{alias.name}.py" for alias in node.names]
    return found


def source_hash(files: Iterable[Path], package: Path = PACKAGE) -> str:
    """SHA-256 over the names and bytes of source files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def processor_name() -> str:
    """The processor's own name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest.json of a run's folder.

    Raises
    ------
    StudyError
        If there is none.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise StudyError(f"{path} does not exist: run its stage again (uv run dvc repro)")
    return json.loads(path.read_text(encoding="utf-8"))


def start_manifest(settings: Any, seed: int | None, device: str, module: str) -> dict[str, Any]:
    """What is known before the work starts. Call it first: the source may be edited meanwhile.

    `source` is the hash of the module that does the work and of all that it imports.
    """
    return {
        "settings": settings,
        "seed": seed,
        "device": device,
        "processor": processor_name(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in REPORTED},
        "source": source_hash(imported_files(Path(module))),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_json(path: Path, document: Any) -> None:
    """Write a document as JSON, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)
