"""How speakers lie in the space of embeddings: numbers that need no threshold and no trial list.

All vectors have length 1, so that only directions count, as in cosine scoring. Pairs are pairs of
two different utterances; within are those of one speaker, between those of two.
"""

import numpy as np
import pandas as pd

from studylib.errors import StudyError

UNIFORMITY_T = 2.0  # Wang and Isola's temperature


def geometry(vectors: np.ndarray, speakers: np.ndarray) -> dict[str, float]:
    """All measures of this module.

    Parameters
    ----------
    vectors : (U, D) float
        One embedding an utterance, each of length 1.
    speakers : (U,)
        Who speaks.

    Returns
    -------
    dict
        alignment, uniformity, within_mean, within_sd, between_mean, between_sd (of cosines),
        d_prime, fisher_ratio, effective_rank.

    Raises
    ------
    StudyError
        No speaker has two utterances, there is one speaker only, or a length is not 1.
    """
    within, between = pair_cosines(vectors, speakers)
    return {
        "alignment": alignment(within),
        "uniformity": uniformity(np.concatenate([within, between])),
        "within_mean": float(within.mean()),
        "within_sd": float(within.std()),
        "between_mean": float(between.mean()),
        "between_sd": float(between.std()),
        "d_prime": d_prime(within, between),
        "fisher_ratio": fisher_ratio(vectors, speakers),
        "effective_rank": effective_rank(vectors),
    }


def pair_cosines(vectors: np.ndarray, speakers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all pairs, each once: (W,) within speakers and (B,) between them.

    W + B = U (U - 1) / 2; takes memory for U x U numbers.
    """
    vectors, speakers = np.asarray(vectors), np.asarray(speakers)
    if not np.allclose(np.square(vectors).sum(axis=1), 1.0, atol=1e-4):
        raise StudyError("geometry: expected embeddings of length 1")
    same = speakers[:, None] == speakers[None]
    once = np.tri(len(vectors), k=-1, dtype=bool)
    if not (same & once).any() or same.all():
        raise StudyError("geometry: expected two speakers or more, one with two utterances or more")
    cosines = vectors @ vectors.T
    return cosines[same & once], cosines[~same & once]


def alignment(within: np.ndarray) -> float:
    """Mean squared distance of one speaker's utterances (Wang and Isola 2020, eq. 4, alpha 2).

    Of vectors of length 1 it is 2 - 2 cos: 0 is perfect, 2 is no better than strangers may be.
    """
    return float(np.mean(2 - 2 * within))


def uniformity(cosines: np.ndarray) -> float:
    """log mean exp(-2 |x - y|^2) over all pairs (Wang and Isola 2020, eq. 5, t 2).

    0 if all vectors are the same; the lower, the more evenly they fill the sphere (not below -4 by
    more than chance, as |x - y|^2 is 2 on average).
    """
    return float(np.log(np.mean(np.exp(-UNIFORMITY_T * (2 - 2 * cosines)))))


def d_prime(within: np.ndarray, between: np.ndarray) -> float:
    """Distance of the two mean cosines in units of their (root mean square) standard deviation."""
    spread = np.sqrt((within.var() + between.var()) / 2)
    return float((within.mean() - between.mean()) / spread)


def fisher_ratio(vectors: np.ndarray, speakers: np.ndarray) -> float:
    """Variance between speakers' means over variance around them: trace(S_B) / trace(S_W).

    Each utterance counts once (Fisher 1936, summed over dimensions).
    """
    frame = pd.DataFrame(np.asarray(vectors, dtype=np.float64))
    means = frame.groupby(np.asarray(speakers)).transform("mean").to_numpy()
    around = np.square(frame.to_numpy() - means).sum()
    return float(np.square(means - means.mean(axis=0)).sum() / around)


def effective_rank(vectors: np.ndarray) -> float:
    """How many dimensions are in use: exp of the entropy of the normalised singular values.

    Roy and Vetterli 2007, of the vectors around their mean: 1 if they lie on a line, D if they
    spread evenly in all directions (and never more than U - 1).
    """
    centred = np.asarray(vectors, dtype=np.float64)
    sizes = np.linalg.svd(centred - centred.mean(axis=0), compute_uv=False)
    shares = sizes / sizes.sum()
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def cosine_histogram(within: np.ndarray, between: np.ndarray, bins: int = 60) -> pd.DataFrame:
    """Densities of the cosines: columns cosine (middle of a bin), within, between.

    The bins span all cosines but the lowest 0.1 % between speakers: where all utterances lie
    in a narrow cone, as without training, the bins are as narrow.
    """
    lowest = min(within.min(), np.quantile(between, 0.001))
    highest = max(within.max(), between.max())
    edges = np.linspace(lowest, max(highest, lowest + 1e-9), bins + 1)
    densities = {
        name: np.histogram(values, edges, density=True)[0]
        for name, values in (("within", within), ("between", between))
    }
    return pd.DataFrame({"cosine": (edges[:-1] + edges[1:]) / 2} | densities)
