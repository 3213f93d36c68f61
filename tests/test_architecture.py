"""Imports run one way, and notebooks stay thin."""

import ast
from pathlib import Path

import nbformat
import pytest

PACKAGE = Path(__file__).parent.parent / "studylib"
NOTEBOOKS = sorted((PACKAGE.parent / "notebooks").glob("*.ipynb"))

# Modules that know plain values and not each other, with what each of them may import.
ALLOWED = {
    "errors": set(),
    "schedules": set(),
    "losses": {"errors"},
    "trunks": {"errors"},
    "features": {"errors"},
    "sampling": {"errors"},
    "metrics": {"errors"},
    "scoring": {"errors"},
    "backends": {"errors", "scoring"},
    "geometry": {"errors"},
    "resampling": {"errors", "metrics"},
    "bootstrap": {"errors", "resampling"},
    "statistics": {"errors", "bootstrap"},
    "comparisons": {"errors", "statistics"},
    "questions": {"statistics"},
    "verdicts": {"errors", "statistics", "bootstrap", "comparisons", "questions"},
    "parquet": set(),
    "measures": {"errors", "backends", "metrics", "statistics"},
    "protocols": {"corpus", "loading", "sections"},
    "scorers": {"backends", "protocols", "scoring", "sections"},
    "corpus": {"errors", "parquet"},
    "augmentation": {"errors", "corpus", "paths"},
    "validation": {"errors", "schedules"},
    "sections": {"schedules"},
    "config": {
        "errors",
        "schedules",
        "sections",
        "validation",
        "losses",
        "trunks",
        "augmentation",
    },
    "reports": {"errors", "config", "sections", "validation"},
    "batch_size": {
        "comparisons",
        "config",
        "paths",
        "provenance",
        "results",
        "sections",
        "statistics",
    },
    "provenance": {"errors"},
    "acceleration": {"config"},
    "optimizers": set(),
    "loading": {"errors", "corpus", "sampling"},
    "tasks": {"errors"},
    "stages": {"errors"},
    "clusters": {"errors", "models"},
    "distributed": {"errors"},
    "large_batch": {"distributed"},
    "training_files": {"config", "corpus", "learner", "models", "paths", "provenance"},
    "figures": {"metrics", "errors"},
}


def imports_of(room: str) -> set[str]:
    """The modules of the package, first level, that a module or subpackage imports."""
    path = PACKAGE / room
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "studylib":
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("studylib."):
                found.add(node.module.split(".")[1])
    return found - {room}


@pytest.mark.parametrize("room", ALLOWED)
def test_a_module_imports_only_what_lies_below_it(room):
    assert imports_of(room) <= ALLOWED[room]


def test_nothing_imports_what_stands_on_top():
    rooms = {path.stem for path in PACKAGE.iterdir()} - {"cli", "__main__", "__init__"}
    for room in rooms - {"__pycache__"}:
        assert "cli" not in imports_of(room), room


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_thin_has_no_outputs_and_one_parameters_cell(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    lengths = [len(cell.source.splitlines()) for cell in code]
    assert max(lengths) <= 20
    assert sum(lengths) <= 140
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == code[:1]
    for cell in code:
        kinds = ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef
        assert not any(isinstance(node, kinds) for node in ast.walk(ast.parse(cell.source)))
