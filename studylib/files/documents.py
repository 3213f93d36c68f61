"""A mistake in a document -> one sentence that names its key and what was expected."""

import difflib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studylib.errors import StudyError

# What pydantic calls a key that a section, or a dataclass, does not have.
UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.+=-]*$")]  # becomes a file name
Positive = Annotated[int, Field(gt=0, strict=True)]
Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of a document: keys it does not know, and numbers that are not finite, are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Loader(yaml.SafeLoader):
    """YAML in which a key occurs once and every number is finite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} occurs twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.MarkedYAMLError(
                problem=f"{node.value} is no finite number", problem_mark=node.start_mark
            )
        return value


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML document of sections.

    Raises
    ------
    StudyError
        The file is missing, is not UTF-8, or is not valid YAML; with its line where there is one.
    """
    try:
        document = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise StudyError(f"{path} does not exist: expected a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not readable: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise StudyError(f"{path}{line}: {getattr(error, 'problem', error)}") from None
    if not isinstance(document, dict):
        raise StudyError(f"{path}: expected sections such as study, corpus, train and runs")
    return document


def validated(model: type[BaseModel], document: Any, where: str) -> Any:
    """The document as a `model`; StudyError, beginning with `where`, at its first problem."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise StudyError(f"{where}: {_first_problem(error, model)}") from None


def _first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    problem = min(error.errors(), key=_rank)
    # A location inside a union also names the member type tried; keys are what the user wrote.
    member_types = ("Schedule", "constrained-float", "float", "int", "bool", "str")
    key = ".".join(str(part) for part in problem["loc"] if part not in member_types)
    if problem["type"] in UNKNOWN_KEY:
        section: Any = model
        for part in problem["loc"][:-1]:
            field = getattr(section, "model_fields", {}).get(part)
            section = field and (get_args(field.annotation) or [field.annotation])[0]
        return unknown("unknown key", key, getattr(section, "model_fields", ()))
    if problem["type"] == "missing":
        return f"the key {key!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem["input"]
    shown = f" (given: {given!r})" if isinstance(given, bool | int | float | str) else ""
    return f"{key}: {message}{shown}" if key else message


def _rank(problem: Mapping[str, Any]) -> int:
    """Of several problems, the one to report: a misspelt key before the key that it leaves out.

    Of a union (number or Schedule), problems of the type that the user did not write come last.
    """
    if problem["type"] in UNKNOWN_KEY:
        return 0
    not_its_type = problem["type"].endswith("_type") and isinstance(problem["input"], Mapping)
    return 2 if not_its_type or problem["type"] == "dataclass_type" else 1


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A sentence about an unknown name, with the nearest known one."""
    known = list(known)
    close = difflib.get_close_matches(name.split(".")[-1], known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{what} {name!r}{hint}" + (f" (known: {', '.join(known)})" if known else "")
