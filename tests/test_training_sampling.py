"""The sampler's promises, counted out on every batch it makes."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from studylib.errors import StudyError
from studylib.training.sampling import BatchSampler, crop_starts
from studylib.training.settings import TrainSettings


def sampler(counts, n, m, most=100, seed=0):
    speakers = np.repeat(np.arange(len(counts)), counts)
    shape = {"speakers_per_batch": n, "utterances_per_speaker": m}
    settings = TrainSettings(crops=1, max_utterances_per_speaker=most, **shape)
    return BatchSampler(speakers, settings, seed), speakers


@pytest.mark.parametrize(("n", "m"), [(32, 2), (40, 5), (7, 1), (1, 3)])
def test_no_speaker_twice_in_a_batch_and_no_utterance_twice_in_an_epoch(n, m):
    made, speakers = sampler(np.random.default_rng(1).integers(5, 120, 40), n, m)
    for epoch in range(2):
        batches = made.epoch(epoch)
        assert batches.shape[1:] == (n, m)
        assert (speakers[batches] == speakers[batches[:, :, :1]]).all()
        for batch in batches:
            assert len(np.unique(speakers[batch[:, 0]])) == n
        assert len(np.unique(batches)) == batches.size


def test_at_most_the_maximum_of_each_speaker_an_epoch():
    made, speakers = sampler([500, 30, 80, 200], 2, 2, most=50)
    counts = np.bincount(speakers[made.epoch(0)].ravel(), minlength=4)
    assert counts.max() <= 50


def test_as_many_groups_are_placed_as_counting_allows():
    # A speaker can be in each batch once: k batches of n need sum(min(groups, k)) >= k n.
    groups = np.random.default_rng(2).integers(1, 60, 50)
    for n in (5, 20, 45):
        made, _ = sampler(2 * groups, n, 2, most=1000)
        possible = max(k for k in range(1, 1000) if np.minimum(groups, k).sum() >= k * n)
        assert made.steps_per_epoch == possible
        assert made.unplaced_share == 1 - possible * n / groups.sum()


def test_speakers_with_too_few_utterances_do_not_count_as_usable():
    sentence = r"per_batch is 3, but only 2 training speakers have at least 3 utterances.* most 2"
    with pytest.raises(StudyError, match=sentence):
        sampler([2, 2, 3, 5], 3, 3)
    with pytest.raises(ValidationError, match="expected utterances_per_speaker or more"):
        sampler([2, 2, 3, 5], 3, 2, most=1)


def test_batches_from_the_middle_are_those_of_an_undisturbed_run():
    made, _ = sampler([40] * 20, 8, 2)
    whole = [batch for batch, _ in zip(made.batches(), range(200), strict=False)]
    for start in (0, 1, made.steps_per_epoch, made.steps_per_epoch + 7):
        resumed = made.batches(start)
        for expected in whole[start : start + 30]:
            np.testing.assert_array_equal(next(resumed), expected)


def test_crop_starts_are_uniform_over_all_places_where_the_crop_fits_else_0():
    starts = np.concatenate(
        [crop_starts(np.full(100, 1000), 900, seed=0, step=s) for s in range(200)]
    )
    assert starts.min() == 0
    assert starts.max() == 100
    counts = np.bincount(starts, minlength=101)
    assert stats.chisquare(counts).pvalue > 0.001
    assert crop_starts(np.array([10, 20]), 20, seed=0, step=0).tolist() == [0, 0]
