"""A mistake in a document -> one sentence that names its key and what was expected."""

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from studylib.errors import StudyError
from studylib.losses.schedules import Schedule


def validated(model: type[BaseModel], document: Any, where: str) -> Any:
    """The document as a `model`; StudyError, beginning with `where`, at its first problem."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise StudyError(f"{where}: {_first_problem(error, model)}") from None


def _first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    # A misspelt key is also a missing one: the misspelling is the better news.
    problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    # A location inside a union also names the member type tried; keys are what the user wrote.
    member_types = ("Schedule", "float", "int", "bool", "str")
    key = ".".join(str(part) for part in problem["loc"] if part not in member_types)
    if problem["type"] == "extra_forbidden":
        return unknown("unknown key", key, _keys_at(model, problem["loc"][:-1]))
    if problem["type"] == "missing":
        return f"the key {key!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem["input"]
    shown = f" (given: {given!r})" if isinstance(given, bool | int | float | str) else ""
    return f"{key}: {message}{shown}" if key else message


def _keys_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The keys a section knows; for a section deeper than a plain model, none."""
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            return list(Schedule.model_fields) if part == "Schedule" else []
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
        elif "Schedule" not in location:
            return []
    return list(model.model_fields)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A sentence about a name nobody knows, with the nearest that is known."""
    known = list(known)
    close = difflib.get_close_matches(name.split(".")[-1], known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{what} {name!r}{hint}" + (f" (known: {', '.join(known)})" if known else "")
