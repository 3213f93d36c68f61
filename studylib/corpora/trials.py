"""Trial lists: which pairs of utterances are compared.

Every recipe takes the table of utterances (columns id, speaker, session, split, and sex where it
is needed) and returns a frame of trials: first, second (utterance ids, categorical) and target
(True if both are of one speaker). A pair occurs once, and never an utterance with itself.
"""

import numpy as np
import pandas as pd

from studylib.errors import StudyError


def all_pairs(utterances: pd.DataFrame, split: str) -> pd.DataFrame:
    """Every pair of utterances of a split: n (n - 1) / 2 trials."""
    first, second = np.triu_indices(len(_of_split(utterances, split)), k=1)
    return _as_trials(_of_split(utterances, split), first, second)


def same_sex(utterances: pd.DataFrame, split: str) -> pd.DataFrame:
    """Every pair of a split whose two speakers are known to have the same sex."""
    part = _of_split(utterances, split)
    if "sex" not in part:
        raise StudyError("Same-sex trials need the column 'sex', which this corpus lacks.")
    sex = part["sex"].to_numpy()
    first, second = np.triu_indices(len(part), k=1)
    kept = (sex[first] == sex[second]) & is_known(part["sex"])[first]
    return _as_trials(part, first[kept], second[kept])


def is_known(values: pd.Series) -> np.ndarray:
    """Whether a speaker's sex or accent is told: (U,) bool. Two that are not are not the same."""
    return (values.notna() & (values != "")).to_numpy()


def cross_session(utterances: pd.DataFrame, split: str) -> pd.DataFrame:
    """Every pair of a split, but for those of one speaker within one session."""
    part = _of_split(utterances, split)
    speaker, session = _codes(part["speaker"]), _codes(part["session"])
    first, second = np.triu_indices(len(part), k=1)
    kept = (speaker[first] != speaker[second]) | (session[first] != session[second])
    return _as_trials(part, first[kept], second[kept])


def per_speaker(
    utterances: pd.DataFrame, split: str, n: int, rng: np.random.Generator
) -> pd.DataFrame:
    """At most n target and n non-target trials of each speaker, drawn at random.

    Target trials are drawn from all pairs of the speaker; non-target trials compare a random
    utterance of the speaker with a random utterance of somebody else. A speaker with too few
    pairs gives fewer.
    """
    part = _of_split(utterances, split)
    order = np.argsort(_codes(part["speaker"]), kind="stable")
    speaker = _codes(part["speaker"])[order]
    counts = np.bincount(speaker)
    if len(counts) < 2:
        raise StudyError(f"Trials per speaker need two speakers or more in the split {split!r}.")
    positions = np.arange(len(speaker))

    pairs = [np.empty((2, 0), dtype=np.int64)]
    for gap in range(1, counts.max()):
        first = positions[:-gap][speaker[:-gap] == speaker[gap:]]
        pairs.append(np.stack([first, first + gap]))
    targets = np.concatenate(pairs, axis=1)
    targets = targets[:, rng.permutation(targets.shape[1])]
    targets = targets[:, _first_n(speaker[targets[0]], n)]

    # Twice as many as needed: some pairs are drawn twice, and those are kept once.
    owner = np.repeat(np.arange(len(counts)), 2 * n)
    begin = (np.cumsum(counts) - counts)[owner]
    own = begin + rng.integers(0, counts[owner])
    other = rng.integers(0, len(speaker) - counts[owner])
    other = np.where(other >= begin, other + counts[owner], other)
    pair = np.minimum(own, other) * len(speaker) + np.maximum(own, other)
    _, once = np.unique(pair, return_index=True)
    once = np.sort(once)
    once = once[_first_n(owner[once], n)]
    nontargets = np.stack([own[once], other[once]])

    first, second = order[np.concatenate([targets, nontargets], axis=1)]
    return _as_trials(part, np.minimum(first, second), np.maximum(first, second))


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


def _first_n(groups: np.ndarray, n: int) -> np.ndarray:
    """Indices of the first n members of each group, in the order given."""
    return np.flatnonzero(pd.Series(groups).groupby(groups).cumcount().to_numpy() < n)
