"""A parameter file -> the full settings of each run. An unknown key is an error.

A study is one parameter file. Its sections `trunk`, `train` and `evaluate` hold what all runs
share; each entry of `runs` names a loss with its numbers, and may change any shared key: ::

    runs:
      angular_prototypical:
        loss: {name: angular_prototypical}
        train: {utterances_per_speaker: 2}
        evaluate: {backends: [plda]}
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, PrivateAttr, create_model

from studylib.errors import StudyError
from studylib.evaluation.baselines import BASELINES
from studylib.evaluation.settings import EvaluateSettings
from studylib.files.documents import Name, Section, read_yaml, unknown, validated
from studylib.files.numbers import NotNegative
from studylib.losses import LOSSES
from studylib.losses.schedules import value_at
from studylib.models.trunks import TRUNKS, trunk_keywords
from studylib.reports.settings import ReportSettings
from studylib.training.settings import Component, CorpusSettings, NumberOrSchedule, RunSettings

Size = Annotated[int, Field(gt=0, le=65_536)]  # of a trunk or a loss


class StudySettings(Section):
    """Which runs and seeds make the study; its results are results/<name>/."""

    name: Name
    runs: list[Name] = Field(min_length=1)
    seeds: list[NotNegative] = Field(min_length=1)
    baselines: list[Name]


class TestSet(Section):
    """A corpus of `evaluate.also`: how the stage `corpus` prepares it, in data/<name>/."""

    source: str
    settings: dict[str, Any] = Field(default={})


class Changes(Section):
    """Keys of a run, in place of those that all runs share: an entry of `runs`."""

    loss: dict[str, Any] = Field(default={})
    trunk: dict[str, Any] = Field(default={})
    train: dict[str, Any] = Field(default={})
    evaluate: dict[str, Any] = Field(default={})


class Params(Section):
    """A whole parameter file."""

    study: StudySettings
    corpus: CorpusSettings
    test_sets: dict[Name, TestSet] = Field(default={})
    trunk: dict[str, Any]
    train: dict[str, Any]
    evaluate: EvaluateSettings
    report: ReportSettings = ReportSettings()
    runs: dict[Name, Changes]
    _file: Path = PrivateAttr()

    @property
    def file(self) -> Path:
        """Where it was read."""
        return self._file


def read_params(path: Path) -> Params:
    """Read and check a parameter file.

    Raises
    ------
    StudyError
        One sentence naming the file and the key, if anything is missing, unknown or of a wrong
        kind.
    """
    params = validated(Params, read_yaml(path), where=str(path))
    params._file = Path(path)
    study, report = params.study, params.report
    if both := params.runs.keys() & BASELINES:
        raise StudyError(f"{path}: runs.{min(both)}: expected another name than a baseline's")
    if (own := params.corpus.name) in params.evaluate.also:
        raise StudyError(f"{path}: evaluate.also names {own}, the study's own corpus")
    for key, names, known in (
        ("study.runs", study.runs, params.runs),
        ("study.baselines", study.baselines, BASELINES),
        ("report.embeddings.runs", report.embeddings.runs, [*study.runs, *study.baselines]),
        ("report.robustness.runs", report.robustness.runs, study.runs),
    ):
        for name in names or ():
            if name not in known:
                raise StudyError(unknown(f"{path}: {key} names", name, known))
    return params


def run_settings(params: Params, name: str, changes: Changes = Changes()) -> RunSettings:  # noqa: B008
    """The settings of one run with all defaults: shared sections, the run's own keys, `changes`.

    Where a run or a change names another trunk, the keys of the earlier trunk are left out.

    Parameters
    ----------
    params : Params
    name : str
        A key of `runs`.
    changes : Changes

    Raises
    ------
    StudyError
        Unknown run, unknown key, or a value that the loss or the trunk does not take.
    """
    if name not in params.runs:
        raise StudyError(unknown("no run is named", name, params.runs))
    where, entry, trunk = f"run {name}", params.runs[name], params.trunk
    for section in (entry.trunk, changes.trunk):
        another = section.get("name", trunk.get("name")) != trunk.get("name")
        trunk = section if another else trunk | section
    document = {
        "study": params.study.name,
        "name": name,
        "corpus": params.corpus,
        "loss": entry.loss | changes.loss,
        "trunk": trunk,
        "train": params.train | entry.train | changes.train,
    }
    settings = validated(RunSettings, document, where)
    trunk = _completed(settings.trunk, TRUNKS, set(), where, "trunk")
    loss = _completed(settings.loss, LOSSES, {"embedding_dim", "n_speakers"}, where, "loss")
    given = settings.train.utterances_per_speaker
    least = LOSSES[loss.name].min_utterances_per_speaker
    if given < least:
        raise StudyError(
            f"{where}: train.utterances_per_speaker is {given}, but the loss {loss.name} compares "
            f"utterances of one speaker: expected at least {least}"
        )
    try:
        with torch.device("meta"):  # shapes only
            TRUNKS[trunk.name](**trunk_keywords(trunk.name, trunk.parameters))
        for progress in (0.0, 1.0):  # both ends of a schedule lie within the loss's bounds
            numbers = {key: value_at(value, progress) for key, value in loss.parameters.items()}
            LOSSES[loss.name](1, 10_000, **numbers)
    except (StudyError, ValueError, RuntimeError) as error:
        raise StudyError(f"{where}: {error}") from None
    return settings.model_copy(update={"trunk": trunk, "loss": loss})


def evaluate_settings(params: Params, name: str, changes: Changes = Changes()) -> EvaluateSettings:  # noqa: B008
    """How one run is measured: the section `evaluate`, then the run's own keys, then `changes`.

    Raises
    ------
    StudyError
        An unknown key, or other trials or corpora: all runs are compared on the same.
    """
    own = params.runs[name].evaluate | changes.evaluate
    for key in {"trials", "also"} & set(own):
        raise StudyError(f"run {name}: evaluate.{key}: all runs are compared on the same trials")
    document = params.evaluate.model_dump() | own
    return validated(EvaluateSettings, document, f"run {name}", "evaluate")


def _completed(
    given: Component, known: Mapping[str, type], not_studied: set[str], where: str, key: str
) -> Component:
    """A loss or a trunk with all keywords of its constructor, each of its kind."""
    if given.name not in known:
        raise StudyError(unknown(f"{where}: {key}.name:", given.name, known))
    kinds, fields = {int: Size, float: NumberOrSchedule}, {}
    for name, keyword in inspect.signature(known[given.name]).parameters.items():
        if name not in not_studied:
            default = ... if keyword.default is keyword.empty else keyword.default
            fields[name] = kinds.get(keyword.annotation, keyword.annotation), default
    section = create_model(given.name, __base__=Section, **fields)
    parameters = dict(validated(section, given.parameters, where, key))
    return Component(name=given.name, parameters=parameters)
