"""A mistake in a document -> one sentence that names its key and what was expected."""

import difflib
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import to_json

from studylib.errors import StudyError

# Whatever becomes the name of a file or folder. No capitals, which some disks do not tell apart; a
# dot only before a digit, so that no name ends as those of temporary files do (.partial, .lock).
Name = Annotated[str, Field(max_length=100, pattern=r"^[a-z0-9]([a-z0-9_+=-]|\.[0-9])*$")]
MEMBERS_OF_UNIONS = ("number", "schedule", "constrained-float", "constrained-int", "[key]")


class Section(BaseModel):
    """A part of a document. Errors are: unknown keys, infinite numbers, lists with repeats."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _each_once(cls, value: Any) -> Any:
        if isinstance(value, list):
            for place, item in enumerate(value):
                if item in value[:place]:
                    raise ValueError(f"{item} is named twice")
        return value


class _Loader(yaml.SafeLoader):
    """YAML in which keys are texts that occur once, numbers are finite, and 1e-3 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if key.tag not in TEXT_TAGS:
                raise _fault(key, "expected a text, perhaps in quotes, as key")
            if key.value in seen:
                raise _fault(key, f"the key {key.value!r} occurs twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except ValueError as error:  # of a date that no calendar has, a number of 5,000 digits
            raise _fault(node, str(error)) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise _fault(node, f"{node.value} is no finite number")
        return value


TEXT_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
_WITHOUT_DOT = re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _WITHOUT_DOT, list("-+0123456789"))


def _fault(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


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
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise StudyError(f"{path}{line}: {problem}") from None
    if not isinstance(document, dict):
        raise StudyError(f"{path}: expected sections such as study, corpus, train and runs")
    return document


def validated(model: type[BaseModel], document: Any, where: str, section: str = "") -> Any:
    """The document as a `model`; StudyError at its first problem.

    Values are taken as they would be from JSON, strictly: true and "3" are no numbers.

    Parameters
    ----------
    model : type
    document : dict, or a `model`
    where : str
        Begins the error's sentence.
    section : str, optional
        The key of this document in the user's.
    """
    try:
        return model.model_validate_json(to_json(document), strict=True)
    except ValidationError as error:
        raise StudyError(f"{where}: {_first_problem(error, model, section)}") from None
    except ValueError as error:  # of a document that contains itself
        raise StudyError(f"{where}: {error}") from None


def _first_problem(error: ValidationError, model: type[BaseModel], section: str) -> str:
    # A misspelt key comes before the key that it leaves out.
    problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    # A location inside a union also names the member type tried; keys are what the user wrote.
    parts = [part for part in problem["loc"] if part not in MEMBERS_OF_UNIONS]
    key = ".".join(str(part) for part in ([section] if section else []) + parts)
    key = key if key.isprintable() else repr(key)
    if problem["type"] == "extra_forbidden":
        place: Any = model
        for part in parts[:-1]:
            field = getattr(place, "model_fields", {}).get(part)
            place = field and (get_args(field.annotation) or [field.annotation])[0]
        return unknown("unknown key", key, getattr(place, "model_fields", ()))
    if problem["type"] == "missing":
        return f"the key {key!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem["input"]
    shown = f" (given: {given!r:.100})" if isinstance(given, bool | int | float | str) else ""
    return f"{key}: {message}{shown}" if key else message


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A sentence about an unknown name, with the nearest known one."""
    known = list(known)
    close = difflib.get_close_matches(name.split(".")[-1], known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{what} {name!r}{hint}" + (f" (known: {', '.join(known)})" if known else "")
