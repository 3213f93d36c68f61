"""What a preparation leaves out, and why: an error at once, or a line in a report."""

import csv
import os
from pathlib import Path

from studylib.errors import StudyError


def skipped_file(folder: Path) -> Path:
    """Where the report of a corpus is, if anything was left out: beside its folder."""
    return folder.with_name(f"{folder.name}.skipped.csv")


class Report:
    """Collects what is skipped; unless it is to keep going, the first problem is an error.

    Attributes
    ----------
    keep_going : bool
    skipped : list of (what, why)
    """

    def __init__(self, keep_going: bool = False):
        self.keep_going = keep_going
        self.skipped: list[tuple[str, str]] = []

    def problem(self, what: str, why: str) -> None:
        """Note that `what` (a file, a line, a speaker) is left out.

        Raises
        ------
        StudyError
            With the sentence `why`, unless the report is to keep going.
        """
        if not self.keep_going:
            raise StudyError(why)
        self.skipped.append((what, why))

    def write(self, path: Path) -> None:
        """Write the report as CSV; if nothing was skipped there is no such file."""
        if not self.skipped:
            path.unlink(missing_ok=True)
            return
        partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
        with open(partial, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("skipped", "why"), *self.skipped])
        partial.replace(path)
