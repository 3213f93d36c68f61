"""LDA and probabilistic LDA: embeddings -> log-likelihood ratios, as Kaldi's x-vector recipe does.

In the two-covariance model an embedding is the sum of a speaker and a session vector,

    x = y + e,   y ~ N(mean, between),   e ~ N(0, within)

so that the log-likelihood ratio of "one speaker" against "two speakers" has a closed form. In the
basis where within = identity and between = diag(psi) the dimensions are independent.

References
----------
Bruemmer, de Villiers 2010, "The speaker partitioning problem" (two-covariance model).
Garcia-Romero, Espy-Wilson 2011, "Analysis of i-vector length normalization".
A: Coria et al. 2020 compare with an x-vector baseline with this back-end.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from studylib.errors import StudyError
from studylib.evaluation.scores import dot_products, speaker_means


@dataclass(frozen=True)
class TwoCovariance:
    """The model's parameters: mean (d,), between (d, d) and within (d, d) covariance."""

    mean: np.ndarray
    between: np.ndarray
    within: np.ndarray

    def log_likelihood_ratios(self, vectors, first, second) -> np.ndarray:
        """Natural-log likelihood ratios of the trials (rows of `vectors`), (T,) float64.

        In the joint basis u1 + u2 has variance 2 (2 psi + 1) for one speaker, 2 (psi + 1) for two;
        u1 - u2 has 2 and 2 (psi + 1). The trials are processed in blocks.
        """
        psi, basis = _joint_basis(self.between, self.within)
        vectors = (np.asarray(vectors, dtype=np.float64) - self.mean) @ basis
        of_sum = (1 / (psi + 1) - 1 / (2 * psi + 1)) / 4
        of_difference = (1 / (psi + 1) - 1) / 4
        own = vectors**2 @ (of_sum + of_difference)
        # The factor of u1 u2 is 2 (of_sum - of_difference) = psi / (2 psi + 1).
        crossed = dot_products(vectors * np.sqrt(psi / (2 * psi + 1)), first, second)
        constant = np.sum(np.log(psi + 1) - np.log(2 * psi + 1) / 2)
        return own[first] + own[second] + crossed + constant


def fit_plda(vectors, speakers, dimension: int) -> tuple[Callable, TwoCovariance]:
    """Fit LDA and PLDA to training embeddings.

    Parameters
    ----------
    vectors : (U, D) float
        One an utterance.
    speakers : (U,) int or str
    dimension : int
        d after LDA: at most D and at most the number of speakers - 1 (Kaldi: 200 of 512).

    Returns
    -------
    project : (U, D) -> (U, d)
        LDA, then scaling to length sqrt(d).
    model : TwoCovariance
        Of projected vectors.

    Raises
    ------
    StudyError
        Too few utterances for a within-speaker covariance of full rank.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # late: slow to import

    n_repeated = len(vectors) - len(np.unique(speakers))
    if dimension < 1 or n_repeated < dimension:
        raise StudyError(
            f"PLDA of {max(dimension, 1)} dimensions needs at least 2 training speakers and as "
            f"many repeated utterances as dimensions; here are {n_repeated} repeated utterances "
            f"of {len(vectors) - n_repeated} speakers."
        )
    lda = LinearDiscriminantAnalysis(n_components=dimension)
    lda.fit(np.asarray(vectors, dtype=np.float64), speakers)

    def project(vectors) -> np.ndarray:
        projected = lda.transform(vectors)
        lengths = np.linalg.norm(projected, axis=1, keepdims=True)
        return projected * np.sqrt(dimension) / lengths

    return project, fit_two_covariance(project(vectors), speakers)


def fit_two_covariance(vectors, speakers, iterations: int = 100) -> TwoCovariance:
    """Maximum likelihood by expectation-maximisation; speakers may have unequal utterance counts.

    Parameters
    ----------
    vectors : (U, d) float
    speakers : (U,) int or str
    iterations : int
    """
    means, numbers, counts = speaker_means(vectors, speakers)
    residual = vectors - means[numbers]
    scatter = residual.T @ residual
    within = scatter / len(vectors)
    between = np.atleast_2d(np.cov(means.T, bias=True))
    mean = means.mean(axis=0)
    for _ in range(iterations):
        psi, basis = _joint_basis(between, within)
        spread = psi / (1 + counts[:, None] * psi)  # posterior variance of each speaker, (S, d)
        centred = (means - mean) @ basis
        posterior = spread * counts[:, None] * centred
        back, shift = np.linalg.inv(basis), posterior.mean(axis=0)
        residual = centred - posterior
        between = posterior.T @ posterior / len(counts) - np.outer(shift, shift)
        between = back.T @ (between + np.diag(spread.mean(axis=0))) @ back
        within = (residual * counts[:, None]).T @ residual + np.diag(counts @ spread)
        within = (back.T @ within @ back + scatter) / len(vectors)
        mean = mean + shift @ back
    return TwoCovariance(mean, between, within)


def _joint_basis(between, within) -> tuple[np.ndarray, np.ndarray]:
    """Ascending psi (d,) and basis (d, d): basis' within basis = 1, basis' between basis = psi."""
    psi, basis = eigh(between, within)
    return np.maximum(psi, 0), basis
