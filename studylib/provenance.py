"""Where a result comes from: settings, seed, versions, machine, and the source that made it."""

import hashlib
import importlib.metadata
import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
REPORTED = ("torch", "torchaudio", "numpy", "scipy", "pandas", "studylib")


def source_hash() -> str:
    """SHA-256 over all Python files of the package, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
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


def start_manifest(settings: Any, seed: int | None, device: str) -> dict[str, Any]:
    """What is known before the work starts. Call it first: the source may be edited meanwhile."""
    return {
        "settings": settings,
        "seed": seed,
        "device": device,
        "processor": processor_name(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in REPORTED},
        "source": source_hash(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_json(path: Path, document: Any) -> None:
    """Write a document as JSON, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)
