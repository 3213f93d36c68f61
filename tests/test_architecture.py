"""Imports run one way between rooms; modules and notebooks stay small."""

import ast
from pathlib import Path

import nbformat
import pytest

PACKAGE = Path(__file__).parent.parent / "studylib"
NOTEBOOKS = sorted((PACKAGE.parent / "notebooks").glob("*.ipynb"))
# A room may import those on the levels before its own, and none beside it.
LEVELS = (
    {"errors"},
    {"files"},
    {"losses", "models", "corpora", "statistics"},
    {"training", "evaluation"},
    {"inference", "reports"},
    {"pipeline"},
    {"cli"},
    {"__main__"},
)
LONGEST = 300
ROOMS = sorted(
    path.stem for path in PACKAGE.iterdir() if path.name not in ("__init__.py", "__pycache__")
)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_on_levels_before_its_own(room):
    level = next(number for number, rooms in enumerate(LEVELS) if room in rooms)
    below = set().union(*LEVELS[:level])
    path = PACKAGE / room
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("studylib"):
                imported = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
                rooms = {name.split(".")[1] for name in imported if "." in name}
                assert rooms & set(ROOMS) <= below | {room}, file


def test_no_module_is_longer_than_one_reads_in_a_sitting():
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_thin_has_no_outputs_and_one_parameters_cell(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    lengths = [len(cell.source.splitlines()) for cell in code]
    assert max(lengths) <= 20
    assert sum(lengths) <= 140
    assert [c for c in code if "parameters" in c.metadata.get("tags", [])] == code[:1]
    for cell in code:
        kinds = ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef
        assert not any(isinstance(node, kinds) for node in ast.walk(ast.parse(cell.source)))
