"""LDA and probabilistic LDA: embeddings -> log-likelihood ratios, as Kaldi's x-vector recipe does.

The two-covariance model says that an embedding is its speaker plus its session,

    x = y + e,   y ~ N(mean, between),   e ~ N(0, within)

so that the log-likelihood ratio of "one speaker" against "two speakers" has a closed form. In the
basis where within = identity and between = diag(psi) every dimension stands alone.

References
----------
Bruemmer, de Villiers 2010, "The speaker partitioning problem" (two-covariance model).
Garcia-Romero, Espy-Wilson 2011, "Analysis of i-vector length normalization".
A: Coria et al. 2020 compare with an x-vector baseline with this back-end.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh, eigvalsh

from studylib.errors import StudyError
from studylib.evaluation.scores import dot_products


@dataclass(frozen=True)
class TwoCovariance:
    """The model's parameters: mean (D,), between (D, D) and within (D, D) covariance."""

    mean: np.ndarray
    between: np.ndarray
    within: np.ndarray

    def log_likelihood_ratios(self, vectors, first, second) -> np.ndarray:
        """Natural-log likelihood ratios of the trials (rows of `vectors`), (T,) float64.

        In the joint basis u1 + u2 has variance 2 (2 psi + 1) for one speaker, 2 (psi + 1) for two;
        u1 - u2 has 2 and 2 (psi + 1).
        """
        psi, basis = _joint_basis(self.between, self.within)
        vectors = (np.asarray(vectors, dtype=np.float64) - self.mean) @ basis
        of_sum = (1 / (psi + 1) - 1 / (2 * psi + 1)) / 4
        of_difference = (1 / (psi + 1) - 1) / 4
        own = vectors**2 @ (of_sum + of_difference)
        # The factor of u1 u2 is 2 (of_sum - of_difference) = psi / (2 psi + 1).
        crossed = dot_products(vectors * np.sqrt(np.maximum(psi, 0) / (2 * psi + 1)), first, second)
        constant = np.sum(np.log(psi + 1) - np.log(2 * psi + 1) / 2)
        return own[first] + own[second] + crossed + constant


def fit_two_covariance(
    vectors, speakers, *, iterations: int = 100, tolerance: float = 1e-6
) -> TwoCovariance:
    """Maximum likelihood by expectation-maximisation; speakers may have unequal utterance counts.

    Parameters
    ----------
    vectors : (U, D) float
    speakers : (U,) int or str
    iterations : int
        At most so many.
    tolerance : float
        Stop when the mean log-likelihood of an utterance rises by less.

    Raises
    ------
    StudyError
        Fewer than 2 speakers, or too few utterances for a within-speaker covariance of full rank.
    """
    vectors, counts, means, scatter = _speaker_statistics(vectors, speakers)
    within = scatter / len(vectors)
    between = np.atleast_2d(np.cov(means.T, bias=True))
    mean, before = means.mean(axis=0), -np.inf
    for _ in range(iterations):
        psi, basis = _joint_basis(between, within)
        spread = psi / (1 + counts[:, None] * psi)  # posterior variance of each speaker, (S, D)
        posterior = spread * counts[:, None] * ((means - mean) @ basis)
        likelihood = _log_likelihood(psi, basis, counts, (means - mean) @ basis, scatter)
        if likelihood / len(vectors) - before < tolerance:
            break
        before = likelihood / len(vectors)
        back = np.linalg.inv(basis)
        shift = posterior.mean(axis=0)
        residual = (means - mean) @ basis - posterior
        between = posterior.T @ posterior / len(counts) - np.outer(shift, shift)
        between = back.T @ (between + np.diag(spread.mean(axis=0))) @ back
        within = (residual * counts[:, None]).T @ residual + np.diag(counts @ spread)
        within = (back.T @ within @ back + scatter) / len(vectors)
        mean = mean + shift @ back
    return TwoCovariance(mean, between, within)


@dataclass(frozen=True)
class PldaBackend:
    """Centre, project by LDA, scale to length sqrt(d) if asked, score by the two-covariance model.

    Attributes
    ----------
    centre : (D,), projection : (D, d), normalise : bool, model : TwoCovariance of dimension d
    """

    centre: np.ndarray
    projection: np.ndarray
    normalise: bool
    model: TwoCovariance

    def project(self, vectors) -> np.ndarray:
        """Embeddings (U, D) -> the vectors (U, d) that the model sees."""
        return _project(vectors, self.centre, self.projection, self.normalise)

    def scores(self, vectors, first, second) -> np.ndarray:
        """Log-likelihood ratios of the trials (rows of `vectors`), (T,) float64."""
        return self.model.log_likelihood_ratios(self.project(vectors), first, second)


def fit_plda(
    vectors, speakers, *, dimension: int, normalise: bool = True, iterations: int = 100
) -> PldaBackend:
    """Fit LDA and PLDA to training embeddings, one vector an utterance.

    Parameters
    ----------
    vectors : (U, D) float
    speakers : (U,) int or str
    dimension : int
        d, what LDA keeps: at most D and at most the number of speakers - 1 (Kaldi: 200 of 512).
    normalise : bool
        Length normalisation after LDA.
    """
    vectors, counts, means, scatter = _speaker_statistics(vectors, speakers)
    if not 1 <= dimension <= min(vectors.shape[1], len(counts) - 1):
        raise StudyError(
            f"LDA keeps 1 to {min(vectors.shape[1], len(counts) - 1)} dimensions of "
            f"{vectors.shape[1]} with {len(counts)} speakers, not {dimension}."
        )
    centre = vectors.mean(axis=0)
    weighted = (means - centre) * np.sqrt(counts / len(vectors))[:, None]
    _, basis = _joint_basis(weighted.T @ weighted, scatter / len(vectors))
    projection = basis[:, ::-1][:, :dimension]
    projected = _project(vectors, centre, projection, normalise)
    model = fit_two_covariance(projected, speakers, iterations=iterations)
    return PldaBackend(centre, projection, normalise, model)


def _project(vectors, centre, projection, normalise: bool) -> np.ndarray:
    projected = (np.asarray(vectors, dtype=np.float64) - centre) @ projection
    if not normalise:
        return projected
    return projected * np.sqrt(projected.shape[1]) / np.linalg.norm(projected, axis=1)[:, None]


def _speaker_statistics(vectors, speakers):
    """Vectors (U, D), utterances (S,) and mean (S, D) a speaker, within-speaker scatter (D, D)."""
    vectors, speakers = np.asarray(vectors, dtype=np.float64), np.asarray(speakers)
    if vectors.ndim != 2 or speakers.shape != vectors.shape[:1]:
        raise StudyError(
            f"PLDA needs one speaker for each vector, not {vectors.shape} vectors and "
            f"{speakers.shape} speakers."
        )
    if not np.isfinite(vectors).all():
        raise StudyError("PLDA was given embeddings that are not finite.")
    names, numbers, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    if len(names) < 2 or len(vectors) - len(names) < vectors.shape[1]:
        raise StudyError(
            f"PLDA of {vectors.shape[1]} dimensions needs at least 2 speakers and as many repeated "
            f"utterances as dimensions; got {len(vectors)} utterances of {len(names)} speakers."
        )
    means = np.zeros((len(names), vectors.shape[1]))
    np.add.at(means, numbers, vectors)
    means /= counts[:, None]
    residual = vectors - means[numbers]
    scatter = residual.T @ residual
    total = np.sum((vectors - vectors.mean(axis=0)) ** 2)
    if eigvalsh(scatter)[0] <= len(scatter) * np.finfo(float).eps * total:
        raise StudyError(
            "The within-speaker covariance is singular: give PLDA more utterances, fewer "
            "dimensions, or no duplicated embeddings."
        )
    return vectors, counts, means, scatter


def _joint_basis(between, within) -> tuple[np.ndarray, np.ndarray]:
    """psi (D,) rising and basis (D, D) with basis' within basis = 1, basis' between basis = psi."""
    psi, basis = eigh(between, within)
    return np.maximum(psi, 0), basis


def _log_likelihood(psi, basis, counts, means, scatter) -> float:
    """Log-likelihood of all utterances; `means` (S, D) are centred and in the joint basis."""
    dimension, total = len(psi), counts.sum()
    log_within = -2 * np.linalg.slogdet(basis)[1]
    inflated = 1 + counts[:, None] * psi  # n x variance of a mean of n utterances
    quadratic = np.sum(counts[:, None] * means**2 / inflated) + np.trace(basis.T @ scatter @ basis)
    constant = total * (dimension * np.log(2 * np.pi) + log_within)
    return -(constant + np.sum(np.log(inflated)) + quadratic) / 2
