"""What a preparation leaves out and why, and the tables that people write."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from studylib.errors import StudyError
from studylib.files.atomic import atomic_file


class Report:
    """Collects what a preparation leaves out, and why.

    Attributes
    ----------
    keep_going : bool
        False: the first problem is an error.
    skipped : list of (what, why)
    """

    def __init__(self, keep_going: bool = False):
        self.keep_going = keep_going
        self.skipped: list[tuple[str, str]] = []

    def problem(self, what: str | Path, why: str) -> None:
        """Note that `what` (a file, a line, a speaker) is left out.

        Raises
        ------
        StudyError
            With the sentence `why`, unless the report keeps going.
        """
        if not self.keep_going:
            raise StudyError(why)
        self.skipped.append((str(what), why))

    def write(self, path: Path) -> None:
        """Write the report as CSV; if nothing was skipped, there is no such file."""
        if not self.skipped:
            path.unlink(missing_ok=True)
            return
        with atomic_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("skipped", "why"), *self.skipped])


def read_rows(
    path: Path, needed: Sequence[str], report: Report
) -> Iterator[tuple[int, dict[str, str]]]:
    """Read a table with a header: comma-, semicolon- or tab-separated, as the header shows.

    A byte-order mark and spaces around a field are dropped; empty lines are skipped.

    Parameters
    ----------
    path : Path
    needed : sequence of str
        Columns that must be there, and filled in each row.
    report : Report
        Collects each row that cannot be used.

    Yields
    ------
    (line, row) : (int, dict)
        The number of the line in the file, and its fields by column.

    Raises
    ------
    StudyError
        If the file cannot be read or lacks a column; for a bad row, unless the report keeps going.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} cannot be read: {error}.") from None
    if not lines:
        raise StudyError(f"{path} is empty; expected a header with {', '.join(needed)}.")
    separator = next((mark for mark in "\t;" if mark in lines[0]), ",")
    header = _fields(lines[0], separator)
    if missing := [column for column in needed if column not in header]:
        raise StudyError(
            f"{path}, line 1: the column {missing[0]!r} is missing; found {', '.join(header)}."
        )
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        where, fields = f"{path}, line {number}", _fields(line, separator)
        if len(fields) != len(header):
            mark = {"\t": "tabs", ";": "semicolons", ",": "commas"}[separator]
            expected = f"expected {len(header)} fields separated by {mark}"
            report.problem(where, f"{where}: {expected}, found {len(fields)}: {line!r}.")
            continue
        row = dict(zip(header, fields, strict=True))
        if empty := [column for column in needed if not row[column]]:
            report.problem(where, f"{where}: the field {empty[0]!r} is empty.")
            continue
        yield number, row


def _fields(line: str, separator: str) -> list[str]:
    return [field.strip() for field in next(csv.reader([line], delimiter=separator))]
