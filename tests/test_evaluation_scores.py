"""Trial scores against the loop over all pairs of crops."""

import numpy as np
import pytest

from studylib.errors import StudyError
from studylib.evaluation.scores import trial_scores


@pytest.fixture(scope="module")
def case():
    generator = np.random.default_rng(1)
    # More utterances and trials than are worked on at a time.
    embeddings = generator.normal(size=(150, 10, 24)) * generator.uniform(0.1, 9, (150, 10, 1))
    first, second = generator.integers(0, 150, (2, 200))
    return embeddings, first, second


def cosine_loop(a, b):
    return np.mean([x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) for x in a for y in b])


def euclidean_loop(a, b):
    return -np.mean([np.sum((x - y) ** 2) for x in a for y in b])


@pytest.mark.parametrize(("name", "loop"), [("cosine", cosine_loop), ("euclidean", euclidean_loop)])
def test_factorised_scores_equal_the_mean_over_all_hundred_pairs(case, name, loop):
    embeddings, first, second = case
    expected = [loop(embeddings[i], embeddings[j]) for i, j in zip(first, second, strict=True)]
    found = trial_scores(embeddings, first, second, scoring=name)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_a_memory_map_scores_like_the_array(case, tmp_path):
    embeddings, first, second = case
    np.save(tmp_path / "embeddings.npy", embeddings)
    mapped = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        trial_scores(mapped, first, second, scoring="cosine"),
        trial_scores(embeddings, first, second, scoring="cosine"),
    )


def test_embeddings_that_cannot_be_scored_are_named(case):
    embeddings, first, second = case
    broken = embeddings.copy()
    broken[87, 3, 5] = np.nan
    with pytest.raises(StudyError, match="Utterance 87 has an embedding that is not finite"):
        trial_scores(broken, first, second, scoring="cosine")
    broken[87, 3] = 0
    with pytest.raises(StudyError, match="Utterance 87 has an embedding of length 0"):
        trial_scores(broken, first, second, scoring="cosine")
