"""Whether two test sets rank the same settings alike: the agreement of their error rates."""

import numpy as np
from scipy.stats import rankdata

from studylib.statistics.intervals import Cells


def rank_agreement(first: Cells, second: Cells) -> dict[str, float]:
    """Spearman's correlation of the error rates of two test sets, over the same cells.

    Both sets' speakers are resampled, the cells of one set on the same resamples. The interval is
    that of the resamples' correlations (percentiles). Error rates of resamples scatter more than
    those of the set, so it lies rather too low than too high; it covers other speakers, not other
    seeds, over which each cell is the mean.

    Parameters
    ----------
    first, second : Cells
        Two or more, with the same names; the two sets resampled independently (with another seed).

    Returns
    -------
    dict
        spearman; low and high, 95 %; pairs_kept: the probability that of two cells the one that is
        better on the first set is better on the second, over all pairs and resamples, where a tie
        counts half.
    """
    assert first.names == second.names
    estimate = _spearman(first.estimates[:, None], second.estimates[:, None])[0]
    resampled = _spearman(first.speakers, second.speakers)
    low, high = np.percentile(resampled, [2.5, 97.5])
    one, other = np.triu_indices(len(first.names), 1)
    signs = (np.sign(part[one] - part[other]) for part in (first.speakers, second.speakers))
    kept = (1 + np.prod(list(signs), axis=0).mean()) / 2
    numbers = {"spearman": estimate, "low": low, "high": high, "pairs_kept": kept}
    return {name: float(value) for name, value in numbers.items()}


def _spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of each column of two arrays (C, B), with mean ranks of ties: (B,); 0 where all are tied."""
    ranks = (rankdata(part, axis=0) for part in (first, second))
    one, other = (part - part.mean(axis=0) for part in ranks)
    lengths = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    products = (one * other).sum(axis=0)
    return np.divide(products, lengths, out=np.zeros_like(lengths), where=lengths > 0)
