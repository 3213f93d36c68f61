"""Trial lists: the pairs of utterances that are compared, by recipe or from a file.

Every recipe takes the table of utterances (columns id, speaker, session, split, and sex where it
is needed) and returns a frame of trials: first, second (utterance ids, categorical) and target
(True if both are of one speaker). A pair occurs once, never an utterance with itself, nor two
utterances of a speaker whose column `take` has the same text: one take of several microphones.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from studylib.corpora.report import Report, read_text
from studylib.errors import StudyError
from studylib.files.documents import Section


def all_pairs(utterances: pd.DataFrame, split: str) -> pd.DataFrame:
    """Every pair of utterances of a split: n (n - 1) / 2 trials."""
    part = _of_split(utterances, split)
    return _as_trials(part, *_pairs(part))


def _pairs(part: pd.DataFrame) -> np.ndarray:
    """Rows (2, P) of every pair, without two utterances of one take."""
    pairs = np.stack(np.triu_indices(len(part), k=1))
    if "take" in part:
        take = part.groupby(["speaker", "take"], sort=False).ngroup().to_numpy()[pairs]
        pairs = pairs[:, (take[0] != take[1]) | ~is_known(part["take"])[pairs[0]]]
    return pairs


def same_sex(utterances: pd.DataFrame, split: str) -> pd.DataFrame:
    """Every pair of a split whose two speakers are known to have the same sex."""
    part = _of_split(utterances, split)
    if "sex" not in part:
        raise StudyError("Same-sex trials need the column 'sex', which this corpus lacks.")
    sex = part["sex"].to_numpy()
    first, second = _pairs(part)
    kept = (sex[first] == sex[second]) & is_known(part["sex"])[first]
    return _as_trials(part, first[kept], second[kept])


def is_known(values: pd.Series) -> np.ndarray:
    """Whether a speaker's sex or accent is known: (U,) bool. Two unknown values are not equal."""
    return (values.notna() & (values != "")).to_numpy()


def cross_session(utterances: pd.DataFrame, split: str) -> pd.DataFrame:
    """Every pair of a split, except those of one speaker within one session."""
    part = _of_split(utterances, split)
    speaker, session = _codes(part["speaker"]), _codes(part["session"])
    first, second = _pairs(part)
    kept = (speaker[first] != speaker[second]) | (session[first] != session[second])
    return _as_trials(part, first[kept], second[kept])


def per_speaker(
    utterances: pd.DataFrame, split: str, n: int, rng: np.random.Generator
) -> pd.DataFrame:
    """At most n target and n nontarget trials of each speaker, drawn at random.

    Target trials are drawn from all pairs of the speaker; nontarget trials compare a random
    utterance of the speaker with a random utterance of another speaker. A speaker with too few
    pairs has fewer.
    """
    part = _of_split(utterances, split)
    speaker = _codes(part["speaker"])
    if speaker.max() == 0:
        raise StudyError(f"Trials per speaker need two speakers or more in the split {split!r}.")
    targets, nontargets, known = [], [], set()
    for code in range(speaker.max() + 1):
        own, others = np.flatnonzero(speaker == code), np.flatnonzero(speaker != code)
        pairs = own[_pairs(part.iloc[own]).T]
        targets += rng.permutation(pairs)[:n].tolist()
        # Twice as many as needed, because repeated pairs are dropped.
        drawn = np.stack([rng.choice(own, 2 * n), rng.choice(others, 2 * n)], axis=1)
        distinct = dict.fromkeys(map(tuple, np.sort(drawn, axis=1).tolist()))
        nontargets += [pair for pair in distinct if pair not in known][:n]
        known.update(nontargets[-n:])
    first, second = np.array(targets + nontargets).T
    return _as_trials(part, first, second)


def _of_split(utterances: pd.DataFrame, split: str) -> pd.DataFrame:
    part = utterances[utterances["split"] == split]
    if part.empty:
        raise StudyError(f"There are no utterances in the split {split!r} to make trials of.")
    return part


def _as_trials(part: pd.DataFrame, first: np.ndarray, second: np.ndarray) -> pd.DataFrame:
    """Positions in a split's table -> trials."""
    speaker = _codes(part["speaker"])
    return pd.DataFrame(
        {
            "first": pd.Categorical.from_codes(first, part["id"]),
            "second": pd.Categorical.from_codes(second, part["id"]),
            "target": speaker[first] == speaker[second],
        }
    )


def _codes(values: pd.Series) -> np.ndarray:
    return pd.factorize(values)[0]


class TrialList(Section):
    """One trial list: a recipe for a split, or a file of lines `1 <utterance> <utterance>`.

    Attributes
    ----------
    recipe : str
        all_pairs, same_sex, cross_session, or per_speaker (at most `n` target and `n` nontarget
        trials of each speaker, drawn with `seed`).
    split : str
        The utterances that the recipe compares.
    file : Path
        A list in VoxCeleb's format; utterances are named by their ids.
    repeats : bool
        Whether the file may name a pair more than once, as VoxCeleb's own lists do.
    """

    recipe: Literal["all_pairs", "same_sex", "cross_session", "per_speaker"] | None = None
    split: Literal["dev", "test"] = "test"
    n: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    file: Path | None = None
    repeats: bool = False

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
        return f"sha256 {hashlib.sha256(read_text(self.file).encode()).hexdigest()}"

    def trials(self, utterances: pd.DataFrame, report: Report) -> pd.DataFrame:
        """The trials: first, second (ids) and target.

        Parameters
        ----------
        utterances : DataFrame
            id, speaker, session, split, and sex for same_sex.
        report : Report
            Collects each line of a file that cannot be used.
        """
        if self.file is not None:
            return read_trial_list(self.file, utterances, report, self.repeats)
        if self.recipe == "per_speaker":
            rng = np.random.default_rng(self.seed)
            return per_speaker(utterances, self.split, self.n, rng)
        recipes = {"all_pairs": all_pairs, "same_sex": same_sex, "cross_session": cross_session}
        return recipes[self.recipe](utterances, self.split)


def make_trials(
    lists: Mapping[str, TrialList], utterances: pd.DataFrame, report: Report
) -> dict[str, pd.DataFrame]:
    """Name -> trials. StudyError if a list has no target or no nontarget trial."""
    made = {name: each.trials(utterances, report) for name, each in lists.items()}
    for name, trials in made.items():
        for target, kind in ((True, "target"), (False, "non-target")):
            if not (trials["target"] == target).any():
                raise StudyError(f"The trial list {name!r} has no {kind} trial.")
    return made


def read_trial_list(
    path: Path, utterances: pd.DataFrame, report: Report, repeats: bool = False
) -> pd.DataFrame:
    """Read a list in VoxCeleb's format, and check each line against the corpus.

    A byte-order mark is dropped, and backslashes are read as slashes.

    Raises
    ------
    StudyError
        If the file cannot be read, or, unless the report keeps going, a line is not of the form
        `<0 or 1> <utterance> <utterance>`, names an utterance that the corpus lacks or trains on,
        compares an utterance with itself, calls two speakers the same (or one speaker two), or
        repeats a pair, in either order, without `repeats`.
    """
    rows = {name: row for row, name in enumerate(utterances["id"])}
    speakers, splits = utterances["speaker"].tolist(), utterances["split"].tolist()
    kept: list[tuple[int, int]] = []
    lines: dict[tuple[int, ...], int] = {}  # pair -> the line that names it first

    def fault(fields: list[str], number: int) -> str | None:
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            return "expected '<0 or 1> <utterance> <utterance>'"
        for name in fields[1:]:
            if name not in rows:
                return f"the utterance {name} is not in the corpus"
            if splits[rows[name]] == "train":
                return f"the utterance {name} is one to train on"
        one, other = pair = rows[fields[1]], rows[fields[2]]
        if one == other:
            return "an utterance is compared with itself"
        if (speakers[one] == speakers[other]) != (fields[0] == "1"):
            return f"the label {fields[0]} contradicts the speakers of the two utterances"
        first = lines.setdefault(tuple(sorted(pair)), number)
        if first != number and not repeats:
            return f"the pair is already in line {first}"
        return None

    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.replace("\\", "/").split()
        if fields and (problem := fault(fields, number)):
            where = f"{path}, line {number}"
            report.problem(where, f"{where}: {problem}: {line.strip()!r}.")
        elif fields:
            kept.append((rows[fields[1]], rows[fields[2]]))
    return _as_trials(utterances, *np.array(kept, dtype=int).reshape(-1, 2).T)
