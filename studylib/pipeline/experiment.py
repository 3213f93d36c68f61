"""An experiment: one run with one seed, trained and measured. What experiment.ipynb does, in steps.

In the pipeline its results are `results/<study>/experiment/<run>-<seed>/`. By hand they are
`results/<study>/variants/<run>+<section>.<key>=<value>-<seed>/`, which no report depends on; or,
if the pipeline has already made the same experiment, that one is shown.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studylib.corpora.hygiene import known_speakers, refuse_known_speakers
from studylib.corpora.store import Corpus, open_corpus
from studylib.errors import StudyError
from studylib.evaluation.baselines import evaluate_baseline
from studylib.evaluation.development import development_eer
from studylib.evaluation.measures import read_metrics
from studylib.evaluation.run import evaluate
from studylib.evaluation.settings import EvaluateSettings
from studylib.files.atomic import read_json, write_json
from studylib.files.checksums import changed_files, digest
from studylib.files.disk import exclusive
from studylib.files.documents import unknown, validated
from studylib.files.paths import corpus_folder, project_root
from studylib.inference.publishing import percent
from studylib.pipeline.params import Changes, Params, evaluate_settings, read_params, run_settings
from studylib.pipeline.plan import baseline_plan, run_plan
from studylib.pipeline.provenance import machine
from studylib.training.loop import train
from studylib.training.settings import RunSettings

CHECKPOINTS = ".checkpoints"  # of unfinished trainings, and locks; git ignores it
LONGEST_NAME = 180  # characters, of a file's name
# Section and key of the notebook's parameters; the others are of training, under their own names.
PLACES = {"margin": ("loss", "margin"), "scale": ("loss", "scale"), "trunk": ("trunk", "name")}


@dataclass(frozen=True)
class Experiment:
    """One run with one seed.

    Attributes
    ----------
    evaluate : EvaluateSettings
    seed : int
    corpus : Corpus
    further : list of Corpus
        Others to measure on: `evaluate.also`.
    folder : Path
        Of the results.
    manifest : dict
        What decides the results; manifest.json, but for the machine and the files.
    settings : RunSettings or None
        None for a baseline.
    fresh : bool
        Whether `folder` holds these results already; they are then shown and not made again.
    """

    evaluate: EvaluateSettings
    seed: int
    corpus: Corpus
    further: list[Corpus]
    folder: Path
    manifest: dict[str, Any]
    settings: RunSettings | None = None
    fresh: bool = False


def open_experiment(
    run: str,
    seed: int,
    *,
    loss: str | None = None,
    changes: Mapping[str, Any] = {},
    overrides: Mapping[str, Any] = {},
    study: str = "",
    out: str = "",
) -> Experiment:
    """The experiment given by the parameters of experiment.ipynb.

    Parameters
    ----------
    run : str
        An entry of `runs`.
    seed : int
    loss : str, optional
        In place of `run`: the run of this name, or else the first with this loss.
    changes : mapping
        Single keys of the loss (margin, scale), of training, or `trunk`, a name; None changes
        nothing.
    overrides : mapping
        Nested, as in an entry of `runs`; after `changes`.
    study : str
        A file of studies/, without its ending; empty: the active study.
    out : str
        The results' folder, given by the pipeline; empty: executed by hand.

    Raises
    ------
    StudyError
        A run, loss, key or value that does not exist; a missing corpus; or, in the pipeline, a plan
        that is not of the present parameters and code.
    """
    root = project_root()
    params = read_params(root / (f"studies/{study}.yaml" if study else "params.yaml"))
    run = _run_of_loss(params, loss) if loss else run
    if type(seed) is not int or seed < 0:
        raise StudyError(f"the seed is {seed!r}: expected a whole number, 0 or more")
    parts = _nested(changes, overrides)
    settings, evaluate = run_settings(params, run, parts), evaluate_settings(params, run, parts)
    plan = run_plan(root, params, settings, evaluate)
    opened = replace(_opened(root, plan, evaluate, seed), settings=settings)
    if out:
        _require_planned(root, plan, "experiment")
        return opened
    if not is_fresh(opened):
        settings = settings.model_copy(update={"name": variant_name(run, parts)})
        folder = opened.folder.parents[1] / "variants" / f"{settings.name}-{seed}"
        opened = replace(opened, settings=settings, folder=folder)
    return replace(opened, fresh=is_fresh(opened))


def open_baseline(name: str) -> Experiment:
    """A baseline of the active study, for `measure_experiment`."""
    root = project_root()
    params = read_params(root / "params.yaml")
    if name not in params.study.baselines:
        raise StudyError(unknown("the study has no baseline", name, params.study.baselines))
    plan = baseline_plan(root, params, name)
    _require_planned(root, plan, "baseline")
    return _opened(root, plan, params.evaluate, 0)


def train_experiment(experiment: Experiment) -> None:
    """Train, unless the folder holds a model of the same run, seed, corpus and code."""
    if experiment.fresh:
        print(f"shown from {experiment.folder}: nothing is trained")
        return
    given = experiment.settings, experiment.corpus, experiment.seed, experiment.folder / "model"
    key, checkpoints = experiment.manifest["digests"]["training"], project_root() / CHECKPOINTS
    seconds = train(*given, checkpoints=checkpoints, key=key, measure=development_eer)
    if seconds:  # to a file of their own: the results are the same every time
        path = experiment.folder.parent.parent / "timing" / f"{experiment.folder.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, seconds)


def measure_experiment(experiment: Experiment) -> dict[str, Any]:
    """Measure on every trial list; write the results and manifest.json. Returns the metrics."""
    folder = experiment.folder
    if experiment.fresh:
        return read_metrics(folder)
    manifest = experiment.manifest | {"machine": machine()}
    given = experiment.corpus, experiment.evaluate, folder
    kept = {"manifest": manifest, "further": experiment.further}
    lock = project_root() / CHECKPOINTS / f"{manifest['study']}-{folder.name}.lock"
    with exclusive(lock):  # the same, started twice
        if experiment.settings is None:
            return evaluate_baseline(manifest["run"], *given, **kept)
        return evaluate(folder / "model" / "model.safetensors", *given, **kept)


def eer_line(experiment: Experiment, metrics: Mapping[str, Any]) -> str:
    """The EER of the first trial list, with its 95 % interval over speakers."""
    return f"{experiment.folder.name}: EER {percent(metrics)} on the trials {metrics['trials']}"


def is_fresh(experiment: Experiment) -> bool:
    """Whether the folder of an experiment holds its results, unchanged."""
    path = experiment.folder / "manifest.json"
    if not path.exists():
        return False
    written, keys = read_json(path), ("run", "seed", "digests", "corpus", "also")
    same = all(written.get(key) == experiment.manifest[key] for key in keys)
    return same and not changed_files(experiment.folder, written["files"])


def _run_of_loss(params: Params, loss: str) -> str:
    runs = {entry.loss.get("name"): run for run, entry in reversed(params.runs.items())}
    runs |= {run: run for run in params.runs}
    if loss not in runs:
        raise StudyError(unknown("no run has the loss", loss, runs))
    return runs[loss]


def _nested(changes: Mapping[str, Any], overrides: Mapping[str, Any]) -> Changes:
    """Single keys and nested ones, by section."""
    nested = validated(Changes, overrides, "overrides").model_dump()
    for key, value in changes.items():
        if value is not None:
            section, name = PLACES.get(key, ("train", key))
            nested[section] = {name: value} | nested[section]
    return Changes(**nested)


def variant_name(run: str, changes: Changes) -> str:
    """A run and what is changed, such as triplet+loss.margin=0.5, in characters of file names.

    A name too long for a file is cut, and ends in a digest of the whole.
    """
    texts = [run]
    for section, part in changes:
        texts += [f"{section}.{key}={json.dumps(value)}" for key, value in part.items()]
    name = re.sub(r"[^\w.=+-]+", "_", "+".join(texts).replace('"', ""))
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}-{digest(texts)[:8]}"


def _opened(root: Path, plan: dict, evaluate: EvaluateSettings, seed: int) -> Experiment:
    """The experiment of a plan; StudyError where a further corpus has training speakers of it."""
    corpus = open_corpus(corpus_folder(root, plan["settings"]["corpus"]["name"]))
    for name in evaluate.trials:  # a misspelt one stops here, and not after the training
        corpus.trials(name)
    further = [open_corpus(corpus_folder(root, name)) for name in evaluate.also]
    for other in further:
        refuse_known_speakers(known_speakers(corpus), other, other.main_list)
    manifest = {
        **{key: plan[key] for key in ("study", "run", "settings")},
        "seed": seed,
        "digests": {key: plan[key] for key in ("training", "evaluation")},
        "corpus": corpus.provenance,
        "also": {other.folder.name: other.provenance for other in further},
    }
    folder = root / "results" / plan["study"] / "experiment" / f"{plan['run']}-{seed}"
    return Experiment(evaluate, seed, corpus, further, folder, manifest)


def _require_planned(root: Path, plan: dict, kind: str) -> None:
    path = root / "results" / plan["study"] / "plan" / kind / f"{plan['run']}.json"
    if not path.exists() or read_json(path) != plan:
        raise StudyError(f"{path} is not of the present parameters and code: run `studylib plan`")
