"""params.yaml and notebook parameters -> validated settings. An unknown key is an error.

A study is one parameter file. Its sections `trunk`, `train` and `evaluate` hold what all runs
share; each entry of `runs` names a loss with its numbers, and may override any shared key: ::

    runs:
      angular_prototypical:
        loss: {name: angular_prototypical}
        train: {utterances_per_speaker: 2}
        evaluate: {backends: [plda]}
"""

import inspect
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from studylib.errors import StudyError
from studylib.evaluation.settings import EvaluateSettings
from studylib.files.documents import Name, Section, unknown, validated
from studylib.reports.settings import ReportSettings
from studylib.training.settings import CorpusSettings, RunSettings, TrainSettings, Value

# What a notebook or a command may change of one run, which makes a variant of it.
VARIANT_KEYS = (
    "margin",
    "scale",
    "trunk",
    "crops",
    "speakers_per_batch",
    "utterances_per_speaker",
    "learning_rate",
)


class StudySettings(Section):
    """Which runs and seeds make the study; its results are results/<name>/."""

    name: Name
    runs: list[Name] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    baselines: list[Literal["logmel_mean_std", "logmel_whitened"]] = Field(default=[])


class RunEntry(Section):
    loss: dict[str, Any]
    trunk: dict[str, Any] = Field(default={})
    train: dict[str, Any] = Field(default={})
    evaluate: dict[str, Any] = Field(default={})


class Params(Section):
    """A whole parameter file."""

    study: StudySettings
    corpus: CorpusSettings
    trunk: dict[str, Any]
    train: dict[str, Any]
    evaluate: EvaluateSettings
    report: ReportSettings = ReportSettings()
    runs: dict[Name, RunEntry]


def read_params(path: Path) -> Params:
    """Read and check a parameter file.

    Raises
    ------
    StudyError
        One sentence naming the file and the key, if anything is missing, unknown or of a wrong
        kind.
    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path} does not exist: expected a parameter file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", error)
        raise StudyError(f"{path}{line}: not valid YAML: {problem}") from None
    if not isinstance(document, dict):
        raise StudyError(f"{path}: expected sections such as study, corpus, train and runs")
    params = validated(Params, document, where=str(path))
    for name in params.study.runs:
        if name not in params.runs:
            raise StudyError(unknown(f"{path}: study.runs names the run", name, params.runs))
    return params


def run_settings(params: Params, name: str, overrides: Mapping[str, Value] = {}) -> RunSettings:
    """The settings of one run: shared sections, the run's own keys, then `overrides`.

    Parameters
    ----------
    params : Params
    name : str
        A key of `runs`.
    overrides : mapping
        Single keys for an ad hoc variant: `trunk` (a name), a key of `train`, or a parameter of
        the loss. They become part of the variant's name, so that it never replaces the run itself.

    Raises
    ------
    StudyError
        Unknown run, unknown key, or a value the loss or the trunk does not take.
    """
    if name not in params.runs:
        raise StudyError(unknown("no run is named", name, params.runs))
    entry = params.runs[name]
    loss, trunk, train = dict(entry.loss), params.trunk | entry.trunk, params.train | entry.train
    for key, value in overrides.items():
        if key == "trunk":
            trunk = trunk | {"name": value}
        elif key in TrainSettings.model_fields:
            train[key] = value
        else:
            loss[key] = value
    variant = "".join(f"+{key}={value}" for key, value in overrides.items())
    document = {
        "study": params.study.name,
        "name": name + variant,
        "corpus": params.corpus,
        "loss": loss,
        "trunk": trunk,
        "train": train,
    }
    settings = validated(RunSettings, document, where=f"run {name}")
    _check_components(settings)
    return settings


def evaluate_settings(params: Params, name: str) -> EvaluateSettings:
    """How one run is measured: the section `evaluate`, then the run's own keys.

    Parameters
    ----------
    name : str
        A key of `runs`, or of an ad hoc variant of one: run+key=value.

    Raises
    ------
    StudyError
        Unknown run, unknown key, or another list of trials: all runs are compared on the same.
    """
    base = name if name in params.runs else name.partition("+")[0]
    if base not in params.runs:
        raise StudyError(unknown("no run is named", base, params.runs))
    own = params.runs[base].evaluate
    if "trials" in own:
        raise StudyError(
            f"run {base}: evaluate.trials is set for this run alone, but all runs are compared on "
            f"the same trials: expected it in the section evaluate of the study"
        )
    document = params.evaluate.model_dump(exclude_unset=True) | own
    return validated(EvaluateSettings, document, where=f"run {base}: evaluate")


def _check_components(settings: RunSettings) -> None:
    """The loss and the trunk exist and take the parameters given; M suits the loss."""
    from studylib.losses import LOSSES
    from studylib.models.trunks import TRUNKS

    for kind, named, known in (
        ("loss", settings.loss, LOSSES),
        ("trunk", settings.trunk, TRUNKS),
    ):
        where = f"run {settings.name}: {kind}"
        if named.name not in known:
            raise StudyError(unknown(f"{where} is named", named.name, known))
        _check_keywords(known[named.name], named.parameters, where)
    if settings.train.augmentation is not None:
        from studylib.training.augmentation import AugmentationSettings

        where = f"run {settings.name}: train.augmentation"
        validated(AugmentationSettings, settings.train.augmentation, where)
    least = LOSSES[settings.loss.name].min_utterances_per_speaker
    if settings.train.utterances_per_speaker < least:
        raise StudyError(
            f"run {settings.name}: train.utterances_per_speaker is "
            f"{settings.train.utterances_per_speaker}, but the loss {settings.loss.name} compares "
            f"utterances of one speaker: expected at least {least}"
        )


def _check_keywords(component: type, given: Mapping[str, Any], where: str) -> None:
    parameters = inspect.signature(component).parameters.values()
    not_studied = {"self", "n_speakers", "seed"}
    if where.endswith("loss"):
        not_studied.add("embedding_dim")  # the trunk's
    known = {p.name: p for p in parameters if p.name not in not_studied}
    for key in given:
        if key not in known:
            raise StudyError(unknown(f"{where}: unknown key", key, known))
    for key, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and key not in given:
            raise StudyError(f"{where}: the key {key!r} is missing")


def overridden(section: Section, given: Mapping[str, Any], where: str) -> Section:
    """A section with the values given in its place, checked; None keeps what the section says."""
    kept = {key: value for key, value in given.items() if value is not None}
    return validated(type(section), section.model_dump() | kept, where=where)


def notebook_parameters(namespace: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """A notebook's parameters, checked: papermill only warns of a name the notebook lacks.

    Parameters
    ----------
    namespace : mapping
        The notebook's `globals()`, right after its parameters.
    known : iterable of str
        The names it understands.

    Raises
    ------
    StudyError
        If the notebook has been given a parameter of another name.
    """
    known = list(known)
    ours_not = {"In", "Out", "exit", "quit", "get_ipython", "open"}
    for name, value in namespace.items():
        is_name_of_ipython = name.startswith("_") or name in ours_not
        if is_name_of_ipython or name in known or isinstance(value, types.ModuleType):
            continue
        if value is None or isinstance(value, bool | int | float | str | list | dict):
            raise StudyError(unknown("unknown parameter", name, known))
    return {name: namespace[name] for name in known}
