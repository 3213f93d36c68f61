"""The plan of a study: for each run, all that decides its outcome, in one small file.

The pipeline's first stage writes these files; a run's stages depend on its own alone. So a change
of one loss's source or numbers reruns the runs of that loss, a new run executes alone, and opening
and saving a notebook, which changes its bytes but not its code, reruns nothing behind the plan.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import nbformat

from studylib.errors import StudyError
from studylib.files.paths import project_root
from studylib.pipeline.params import Params, evaluate_settings, run_settings
from studylib.pipeline.provenance import imported_files, write_json
from studylib.pipeline.report_runs import batch_size_runs

# Where text is part of the result: their executed copies are the study's report.
REPORTS = ("corpus", "losses", "embeddings", "robustness", "batch_size")


def write_plan(params: Params, package: Path, notebooks: Path, out: Path) -> None:
    """Write `out`: train/<run>.json, evaluate/<run>.json, notebooks/ and reports/<name>.json.

    Parameters
    ----------
    params : Params
    package, notebooks : Path
        The sources: the folder of the package and the folder of the notebooks.
    out : Path
        Replaced when the plan is whole.

    Raises
    ------
    StudyError
        If any run's settings or a report's runs are not valid; nothing is written then.
    """
    batch_size_runs(params)
    runs = {name: run_ingredients(params, name, package) for name in params.study.runs}
    measured = {name: evaluate_settings(params, name) for name in params.study.runs}
    sources = {path.stem: notebook_source(path) for path in sorted(notebooks.glob("*.ipynb"))}
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for kind in ("train", "evaluate", "notebooks", "reports"):
        (partial / kind).mkdir(parents=True)
    for name, ingredients in runs.items():
        write_json(partial / "train" / f"{name}.json", ingredients)
    for name, settings in measured.items():
        document = settings.model_dump(mode="json", exclude_defaults=True)
        write_json(partial / "evaluate" / f"{name}.json", document)
    for name, section in params.report:  # defaults too, as a parameter file may leave it out
        write_json(partial / "reports" / f"{name}.json", section.model_dump(mode="json"))
    for name, source in sources.items():
        write_json(partial / "notebooks" / f"{name}.json", source)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)


def run_ingredients(params: Params, name: str, package: Path) -> dict[str, Any]:
    """The settings of a run and the hash of each file it is made of.

    That is the source of its loss and of its trunk, and the weights it starts from.
    """
    settings = run_settings(params, name)
    roots = [
        package / "losses" / f"{settings.loss.name}.py",
        package / "models" / f"{settings.trunk.name}.py",
    ]
    files = sorted(set().union(*(imported_files(root, package) for root in roots)))
    weights = settings.train.initial_weights
    return {
        # Defaults stay out: a new key with a default must not rerun what does not set it.
        "settings": settings.model_dump(mode="json", exclude={"study"}, exclude_defaults=True),
        "source": {
            path.relative_to(package).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
        },
    } | ({"initial_weights": _weights_hash(name, weights)} if weights else {})


def _weights_hash(run: str, weights: str) -> str:
    path = project_root() / weights
    if not path.is_file():
        raise StudyError(
            f"run {run}: train.initial_weights: {weights} does not exist; first run the study that "
            "makes it, or import released weights with `studylib import`"
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()


def notebook_source(path: Path) -> list[str]:
    """What of a notebook decides its outcome: its code cells; for a report, its text as well."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except (ValueError, json.JSONDecodeError, nbformat.ValidationError) as error:
        raise StudyError(f"{path} is not a readable notebook: {error}") from None
    kinds = ("code", "markdown") if path.stem in REPORTS else ("code",)
    return [cell.source for cell in notebook.cells if cell.cell_type in kinds]
