"""Trial scores against the loop over all pairs of crops."""

import numpy as np
import pytest

from studylib.errors import StudyError
from studylib.evaluation import scores as scoring


@pytest.fixture(scope="module")
def case():
    generator = np.random.default_rng(1)
    embeddings = generator.normal(size=(30, 10, 24)) * generator.uniform(0.1, 9, (30, 10, 1))
    first, second = generator.integers(0, 30, (2, 200))
    return embeddings, first, second


def cosine_loop(a, b):
    return np.mean([x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) for x in a for y in b])


def euclidean_loop(a, b):
    return -np.mean([np.sum((x - y) ** 2) for x in a for y in b])


@pytest.mark.parametrize(("name", "loop"), [("cosine", cosine_loop), ("euclidean", euclidean_loop)])
def test_factorised_scores_equal_the_mean_over_all_hundred_pairs(case, name, loop):
    embeddings, first, second = case
    expected = [loop(embeddings[i], embeddings[j]) for i, j in zip(first, second, strict=True)]
    for block in (1, 7, 4096):
        found = scoring.trial_scores(embeddings, first, second, scoring=name, block=block)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_single_precision_embeddings_lose_nothing_but_their_own_rounding(case):
    embeddings, first, second = case
    for name in scoring.SCORINGS:
        exact = scoring.trial_scores(embeddings, first, second, scoring=name)
        single = scoring.trial_scores(embeddings.astype(np.float32), first, second, scoring=name)
        np.testing.assert_allclose(single, exact, rtol=1e-5, atol=1e-6)


def test_one_whole_utterance_embedding_gives_the_plain_cosine_and_distance(case):
    embeddings, first, second = case
    whole = embeddings[:, :1]
    a, b = whole[first, 0], whole[second, 0]
    cosine = np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(
        scoring.trial_scores(whole, first, second, scoring="cosine"), cosine, atol=1e-13
    )
    np.testing.assert_allclose(
        scoring.trial_scores(whole, first, second, scoring="euclidean"),
        -np.sum((a - b) ** 2, axis=1),
        rtol=1e-11,
    )


def test_a_memory_map_scores_like_the_array(case, tmp_path):
    embeddings, first, second = case
    np.save(tmp_path / "embeddings.npy", embeddings)
    mapped = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        scoring.trial_scores(mapped, first, second, scoring="cosine", block=8),
        scoring.trial_scores(embeddings, first, second, scoring="cosine", block=8),
    )


def test_no_trials_give_no_scores(case):
    nothing = np.array([], dtype=int)
    assert scoring.trial_scores(case[0], nothing, nothing, scoring="cosine").shape == (0,)


def test_embeddings_or_rows_that_cannot_be_scored_are_named(case):
    embeddings, first, second = case
    broken = embeddings.copy()
    broken[17, 3, 5] = np.nan
    with pytest.raises(StudyError, match="Utterance 17 has an embedding that is not finite"):
        scoring.trial_scores(broken, first, second, scoring="cosine", block=4)
    broken[17, 3] = 0
    with pytest.raises(StudyError, match="Utterance 17 has an embedding of length 0"):
        scoring.trial_scores(broken, first, second, scoring="cosine", block=4)
    with pytest.raises(StudyError, match="utterance 30"):
        scoring.trial_scores(embeddings, [30], [0], scoring="cosine")
    with pytest.raises(StudyError, match="row numbers"):
        scoring.trial_scores(embeddings, [-1], [0], scoring="cosine")
    with pytest.raises(StudyError, match="one length"):
        scoring.trial_scores(embeddings, [0, 1], [0], scoring="cosine")
    with pytest.raises(StudyError, match="utterances, crops, dimensions"):
        scoring.trial_scores(embeddings[:, 0], first, second, scoring="cosine")
    with pytest.raises(StudyError, match="Unknown scoring 'manhattan'"):
        scoring.trial_scores(embeddings, first, second, scoring="manhattan")
