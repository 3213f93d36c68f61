"""Which speakers train, develop and test: drawn with a seed, or given by a list."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from studylib.corpora.report import Report
from studylib.corpora.store import SPLITS
from studylib.corpora.tables import read_rows
from studylib.errors import StudyError

Amount = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)]


class Splits(BaseModel):
    """How speakers are split; no speaker is ever in two splits.

    Attributes
    ----------
    train, dev, test : int or float
        A number of speakers (int) or a share of them (float); without `train`, all the rest.
    seed : int
        Of the draw.
    file : Path
        Instead of a draw, a table with the columns speaker and split; speakers that it does not
        name are left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: Amount | None = None
    dev: Amount = 0
    test: Amount = 0
    seed: int = 0
    file: Path | None = None

    def assign(self, speakers: Iterable[str], report: Report) -> dict[str, str]:
        """Speaker -> split; speakers that are left out have no entry.

        Raises
        ------
        StudyError
            If more speakers are asked for than there are, or the list has a fault.
        """
        if self.file is not None:
            return _read_splits(self.file, report)
        speakers = sorted(set(speakers))
        test, dev = self._count(self.test, speakers), self._count(self.dev, speakers)
        rest = len(speakers) - test - dev
        train = rest if self.train is None else self._count(self.train, speakers)
        if rest < 0 or train > rest:
            raise StudyError(
                f"The splits ask for {train if rest >= 0 else 0} + {dev} + {test} speakers "
                f"(train, dev, test), but there are {len(speakers)}."
            )
        order = np.random.default_rng(self.seed).permutation(len(speakers))
        names = ["test"] * test + ["dev"] * dev + ["train"] * train
        return {speakers[at]: name for at, name in zip(order, names, strict=False)}

    def _count(self, amount: int | float, speakers: list[str]) -> int:
        return amount if isinstance(amount, int) else round(amount * len(speakers))


def _read_splits(path: Path, report: Report) -> dict[str, str]:
    splits: dict[str, str] = {}
    for line, row in read_rows(path, ("speaker", "split"), report):
        where, speaker, split = f"{path}, line {line}", row["speaker"], row["split"]
        if split not in SPLITS:
            report.problem(where, f"{where}: split {split!r} is not one of {', '.join(SPLITS)}.")
        elif splits.get(speaker, split) != split:
            report.problem(where, f"{where}: speaker {speaker!r} is in two splits.")
        else:
            splits[speaker] = split
    return splits
