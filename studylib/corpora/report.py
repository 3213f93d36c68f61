"""What a preparation leaves out and why; reading of texts and tables written by hand."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from studylib.errors import StudyError
from studylib.files.atomic import atomic_file


@dataclass
class Report:
    """Collects what a preparation leaves out, and why.

    Attributes
    ----------
    keep_going : bool
        False: the first problem is an error.
    skipped : list of (what, why)
    """

    keep_going: bool = False
    skipped: list[tuple[str, str]] = field(default_factory=list)

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
        path.unlink(missing_ok=True)
        if self.skipped:
            with atomic_file(path) as partial:
                pd.DataFrame(self.skipped, columns=["skipped", "why"]).to_csv(partial, index=False)


def read_text(path: Path) -> str:
    """A text file without its byte-order mark; StudyError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} cannot be read: {error}.") from None


def read_rows(
    path: Path, needed: Sequence[str], report: Report
) -> Iterator[tuple[str, dict[str, str]]]:
    """Read a table with a header: comma-, semicolon- or tab-separated, as the header shows.

    Spaces around a field are dropped; empty lines are skipped.

    Parameters
    ----------
    path : Path
    needed : sequence of str
        Columns that must be there, and filled in each row.
    report : Report
        Collects each row that cannot be used.

    Yields
    ------
    (where, row) : (str, dict)
        The file and number of the line, and its fields by column.

    Raises
    ------
    StudyError
        If the file cannot be read or lacks a column; for a bad row, unless the report keeps going.
    """
    lines = read_text(path).splitlines() or [""]
    separator = next((mark for mark in "\t;" if mark in lines[0]), ",")
    header: list[str] = []
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        try:
            fields = [each.strip() for each in next(csv.reader([line], delimiter=separator), [])]
        except csv.Error as error:
            raise StudyError(f"{where}: {error}.") from None
        if not header:
            header = fields
            if missing := [column for column in needed if column not in header]:
                raise StudyError(f"{where}: the column {missing[0]!r} is missing among {header}.")
            if len(set(header)) < len(header):
                raise StudyError(f"{where}: a column occurs twice among {header}.")
        elif not line.strip():
            continue
        elif len(fields) != len(header):
            found = f"found {len(fields)} fields in place of {len(header)}: {line!r}"
            report.problem(where, f"{where}: {found}.")
        elif empty := [column for column in needed if not fields[header.index(column)]]:
            report.problem(where, f"{where}: the field {empty[0]!r} is empty.")
        else:
            yield where, dict(zip(header, fields, strict=True))
