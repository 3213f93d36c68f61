"""The plan of a study: the one definition of what is stale.

The pipeline's first stage writes one small file for each run, baseline and report, and one for the
corpus. A file holds full settings, defaults included, and digests of the source that executes: of
a module, and of all modules of the package that it imports, directly or not. A stage depends on its
own file alone. So the edit of one loss reruns its experiments, a new run executes alone, and a
notebook that is opened and saved, which changes its bytes but not its code, reruns nothing.
"""

import ast
import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat

from studylib.corpora.sources import SOURCES, check_settings
from studylib.errors import StudyError
from studylib.evaluation.settings import EvaluateSettings
from studylib.files.atomic import atomic_folder, write_json
from studylib.files.checksums import digest, sha256
from studylib.losses import LOSSES
from studylib.models.trunks import TRUNKS
from studylib.pipeline.params import Params, TestSet, evaluate_settings, run_settings
from studylib.training.settings import CorpusSettings, RunSettings

EXPERIMENT = "experiment"  # the notebook of one run
NO_REPORTS = (EXPERIMENT, "summary")  # the other notebooks are reports on all runs of one study
# A run's own loss, trunk, source and augmentation are added separately; settings are in the plan.
NOT_FOLLOWED = {
    "corpora/sources.py",
    "evaluation/settings.py",
    "losses/__init__.py",
    "models/trunks.py",
    "training/augmentation.py",
    "training/settings.py",
}
NO_CHANGE_OF_WEIGHTS = {"checkpoint_seconds", "device", "threads"}


def plan_documents(root: Path, params: Params) -> dict[str, dict[str, Any]]:
    """All files of the plan: name below results/<study>/plan/ -> content.

    Raises
    ------
    StudyError
        Settings of a run, of the corpus or of a report that are not valid; it names their file.
    """
    documents = {}
    try:
        for run in params.study.runs:
            given = run_settings(params, run), evaluate_settings(params, run)
            documents[f"experiment/{run}.json"] = run_plan(root, params, *given)
        for name in params.study.baselines:
            documents[f"baseline/{name}.json"] = baseline_plan(root, params, name)
        documents["corpus.json"] = corpus_plan(root, params)
    except StudyError as error:
        raise StudyError(f"{params.file}: {error}") from None
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        if path.stem not in NO_REPORTS:
            documents[f"reports/{path.stem}.json"] = _report_plan(root, params, path)
    documents["page.json"] = {"digest": digest(hashes(root, ["studylib.reports.page"]))}
    return documents


def write_plan(root: Path, params: Params) -> None:
    """Write results/<study>/plan/, whole or, after a mistake, not at all."""
    documents = plan_documents(root, params)
    with atomic_folder(root / "results" / params.study.name / "plan") as folder:
        for name, document in documents.items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_json(folder / name, document)


def run_plan(
    root: Path, params: Params, settings: RunSettings, evaluate: EvaluateSettings
) -> dict[str, Any]:
    """What decides an experiment: full settings, the digest of its weights and of its results."""
    resolved = {"corpus": _corpus(params.corpus), "evaluate": evaluate.model_dump(mode="json")}
    resolved |= settings.model_dump(mode="json", include={"loss", "trunk", "train"})
    where = f"run {settings.name}: train"
    most = resolved["corpus"]["settings"].get("n_train_speakers", math.inf)
    given = max(settings.train.speakers_per_batch, settings.train.training_speakers or 0)
    if settings.train.crops and given > most:
        raise StudyError(f"{where} asks for {given} speakers: expected at most {most}")
    parts = LOSSES[settings.loss.name], TRUNKS[settings.trunk.name]
    modules = ["studylib.training.loop", *(part.__module__ for part in parts)]
    if settings.train.augmentation:
        modules.append("studylib.training.augmentation")
    if settings.train.keep == "best":
        modules.append("studylib.evaluation.development")
    # The corpus by name: its content is identified by the checksums in its corpus.json.
    decisive = {key: resolved[key] for key in ("loss", "trunk")} | {"corpus": params.corpus.name}
    train = settings.train.model_dump(mode="json", exclude=NO_CHANGE_OF_WEIGHTS)
    weights = settings.train.initial_weights
    if weights and not (root / weights).is_file():
        raise StudyError(
            f"{where}.initial_weights: {weights} does not exist; first run the study that makes "
            "it, or import released weights with `studylib import`"
        )
    training = [decisive, train, hashes(root, modules), weights and sha256(root / weights)]
    return {
        "study": params.study.name,
        "run": settings.name,
        "settings": resolved,
        "training": digest(training),
        "evaluation": _evaluation(root, evaluate, "run"),
    }


def baseline_plan(root: Path, params: Params, name: str) -> dict[str, Any]:
    """What decides a baseline, as `run_plan`."""
    settings = {"corpus": _corpus(params.corpus), "loss": None, "trunk": None, "train": None}
    return {
        "study": params.study.name,
        "run": name,
        "settings": settings | {"evaluate": params.evaluate.model_dump(mode="json")},
        "training": None,
        "evaluation": _evaluation(root, params.evaluate, "baselines"),
    }


def corpus_plan(root: Path, params: Params) -> dict[str, Any]:
    """What decides the corpora under data/: their settings, and the sources that prepare them."""
    described = {name: params.test_sets.get(name) for name in params.evaluate.also}
    sets = {name: each and _corpus(each) for name, each in described.items()}
    corpus = _corpus(params.corpus)
    sources = [SOURCES[each["source"]] for each in (corpus, *sets.values()) if each]
    modules = {module for settings, _, prepare in sources for module in (settings, prepare)}
    return corpus | {"also": sets, "digest": digest(hashes(root, modules))}


def _corpus(section: CorpusSettings | TestSet) -> dict[str, Any]:
    settings = check_settings(section.source, section.settings)
    return section.model_dump() | {"settings": settings.model_dump(mode="json")}


def _evaluation(root: Path, evaluate: EvaluateSettings, module: str) -> str:
    decisive = evaluate.model_dump(mode="json", exclude=NO_CHANGE_OF_WEIGHTS)
    sources = hashes(root, [f"studylib.evaluation.{module}"])
    code = notebook_cells(root / "notebooks" / f"{EXPERIMENT}.ipynb", "code")
    return digest([decisive, sources, code if module == "run" else []])


def _report_plan(root: Path, params: Params, notebook: Path) -> dict[str, Any]:
    """What decides a report besides the results: its settings, its code and its prose."""
    study, section = params.study, getattr(params.report, notebook.stem, None)
    code = "\n".join(notebook_cells(notebook, "code"))
    sources = hashes(root, [f"{module}.{name}" for module, name in _imports(code)])
    return {
        "study": study.name,
        "corpus": params.corpus.name,
        **study.model_dump(include={"runs", "seeds", "baselines"}),
        "settings": section.model_dump(mode="json") if section else {},
        "digest": digest([sources, notebook_cells(notebook, "code", "markdown")]),
    }


def notebook_cells(path: Path, *kinds: str) -> list[str]:
    """The sources of a notebook's cells of some kinds, such as "code"."""
    notebook = nbformat.read(path, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type in kinds]


def hashes(root: Path, modules: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of the files of some modules and of all that they import from the package.

    Parameters
    ----------
    root : Path
        The folder that holds the package.
    modules : iterable of str
        As in `studylib.training.loop`; or a name of a module or of a face, as in
        `studylib.statistics.verdicts`.

    Returns
    -------
    dict
        Path below the root -> checksum. All modules that a face re-exports count as imported.
    """
    found, not_followed = set(), {root / "studylib" / name for name in NOT_FOLLOWED}
    waiting = [_defining(root, *name.rpartition(".")[::2]) for name in modules]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        found |= {script for script in [path.with_suffix(".js")] if script.exists()}
        imports = _imports(path.read_text(encoding="utf-8"))
        waiting += {_defining(root, *each) for each in imports} - not_followed
    return {path.relative_to(root).as_posix(): sha256(path) for path in sorted(found)}


def _defining(root: Path, module: str, name: str) -> Path:
    """The file that `from module import name` reads."""
    place = root.joinpath(*module.split("."))
    files = place.with_suffix(".py"), place / f"{name}.py", place / name / "__init__.py"
    return next((file for file in files if file.exists()), place / "__init__.py")


@functools.cache
def _imports(source: str) -> list[tuple[str, str]]:
    """Module and name of each `from studylib... import name` in a source."""
    return [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "studylib"
        for alias in node.names
    ]
