"""The trial lists of a prepared corpus, as settings name them: by recipe, or from a file."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from studylib.corpora import trials as recipes
from studylib.corpora.report import Report
from studylib.errors import StudyError


class TrialList(BaseModel):
    """One trial list: a recipe for a split, or a file of lines `1 <utterance> <utterance>`.

    Attributes
    ----------
    recipe : str
        all_pairs, same_sex, cross_session, or per_speaker (at most `n` target and `n` non-target
        trials of each speaker, drawn with `seed`).
    split : str
        Whose utterances the recipe compares.
    file : Path
        A list in VoxCeleb's format; utterances are named by their ids.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: Literal["all_pairs", "same_sex", "cross_session", "per_speaker"] | None = None
    split: Literal["dev", "test"] = "test"
    n: int | None = Field(default=None, ge=1)
    seed: int = 0
    file: Path | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "TrialList":
        if (self.recipe is None) == (self.file is None):
            raise ValueError("a trial list has either a recipe or a file")
        if (self.recipe == "per_speaker") != (self.n is not None):
            raise ValueError("the recipe per_speaker, and only that, needs n")
        return self

    def identity(self) -> dict | str:
        """What the list consists of: its recipe, or the checksum of its file."""
        if self.file is None:
            return self.model_dump(mode="json", exclude_none=True)
        return f"sha256 {hashlib.sha256(_read_bytes(self.file)).hexdigest()}"

    def trials(self, utterances: pd.DataFrame, report: Report) -> pd.DataFrame:
        """The trials: first, second (ids) and target.

        Parameters
        ----------
        utterances : DataFrame
            id, speaker, session, split, and sex for same_sex.
        report : Report
            Told of each line of a file that cannot be used.
        """
        if self.file is not None:
            return read_trial_list(self.file, utterances, report)
        if self.recipe == "per_speaker":
            rng = np.random.default_rng(self.seed)
            return recipes.per_speaker(utterances, self.split, self.n, rng)
        return getattr(recipes, self.recipe)(utterances, self.split)


def make_trials(
    lists: Mapping[str, TrialList], utterances: pd.DataFrame, report: Report
) -> dict[str, pd.DataFrame]:
    """Name -> trials. StudyError if a list has no target or no non-target trial."""
    made = {}
    for name, trial_list in lists.items():
        trials = trial_list.trials(utterances, report)
        for target, kind in ((True, "target"), (False, "non-target")):
            if not (trials["target"] == target).any():
                raise StudyError(f"The trial list {name!r} has no {kind} trial.")
        made[name] = trials
    return made


def read_trial_list(path: Path, utterances: pd.DataFrame, report: Report) -> pd.DataFrame:
    """Read a list in VoxCeleb's format, and check each line against the corpus.

    A byte-order mark is dropped, and backslashes are read as slashes.

    Raises
    ------
    StudyError
        If the file cannot be read or is empty, or, unless the report keeps going, a line is not
        of the form `<0 or 1> <utterance> <utterance>`, names an utterance that the corpus lacks
        or trains on, compares an utterance with itself, or calls two speakers the same (or one
        speaker two).
    """
    rows = {name: row for row, name in enumerate(utterances["id"])}
    speakers, splits = utterances["speaker"].tolist(), utterances["split"].tolist()
    kept = []
    try:
        lines = _read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise StudyError(f"The trial list {path} is not text in UTF-8.") from None
    for number, line in enumerate(lines, start=1):
        fields = line.replace("\\", "/").split()
        if not fields:
            continue
        if fault := _fault(fields, rows, speakers, splits):
            where = f"{path}, line {number}"
            report.problem(where, f"{where}: {fault}: {line.strip()!r}.")
            continue
        kept.append((rows[fields[1]], rows[fields[2]], fields[0] == "1"))
    if not kept:
        raise StudyError(f"The trial list {path} has no trials.")
    first, second, target = zip(*kept, strict=True)
    sides = {
        side: pd.Categorical.from_codes(codes, utterances["id"])
        for side, codes in (("first", first), ("second", second))
    }
    return pd.DataFrame(sides | {"target": np.array(target)})


def _fault(
    fields: list[str], rows: Mapping[str, int], speakers: list[str], splits: list[str]
) -> str | None:
    if len(fields) != 3:
        return f"expected '<0 or 1> <utterance> <utterance>', found {len(fields)} fields"
    label, *sides = fields
    if label not in ("0", "1"):
        return f"the label must be 0 or 1, not {label}"
    for name in sides:
        if name not in rows:
            return f"the utterance {name} is not in the corpus"
        if splits[rows[name]] == "train":
            return f"the utterance {name} is one to train on"
    if sides[0] == sides[1]:
        return "an utterance is compared with itself"
    if (speakers[rows[sides[0]]] == speakers[rows[sides[1]]]) != (label == "1"):
        return f"the label {label} contradicts the speakers of the two utterances"
    return None


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StudyError(f"The trial list {path} cannot be read: {error.strerror}.") from None
