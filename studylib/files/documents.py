"""A mistake in a document -> one sentence that names its key and what was expected."""

import difflib
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studylib.errors import StudyError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.+=-]*$")]  # becomes a file name
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of a document: keys it does not know are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
        known = model.model_fields if len(problem["loc"]) == 1 else ()
        return unknown("unknown key", key, known)
    if problem["type"] == "missing":
        return f"the key {key!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem["input"]
    shown = f" (given: {given!r})" if isinstance(given, bool | int | float | str) else ""
    return f"{key}: {message}{shown}" if key else message


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A sentence about a name nobody knows, with the nearest that is known."""
    known = list(known)
    close = difflib.get_close_matches(name.split(".")[-1], known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{what} {name!r}{hint}" + (f" (known: {', '.join(known)})" if known else "")
