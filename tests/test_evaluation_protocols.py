"""Protocols against crops cut by hand."""

import numpy as np
import pytest

from studylib.evaluation import protocols
from studylib.evaluation.settings import EvaluateSettings


def energies(corpus, rows, crops, crop_seconds):
    """An embedder that needs no network: mean square and mean of each crop, cut like `embed`'s."""
    found = []
    for row in rows:
        samples = corpus.samples(row).astype(np.float64)
        length = len(samples) if crop_seconds is None else round(16_000 * crop_seconds)
        room = max(len(samples) - length, 0)
        starts = [room // 2] if crops == 1 else [room * i // (crops - 1) for i in range(crops)]
        pieces = [np.resize(samples[start : start + length], length) for start in starts]
        found.append([(np.mean(piece**2), np.mean(piece)) for piece in pieces])
    return np.array(found, dtype=np.float32)


def test_as_few_windows_as_reach_from_start_to_end_at_most_a_hop_apart():
    seconds = np.array([0.4, 3.0, 3.01, 4.0, 4.01, 11.7])
    assert protocols.count_windows(seconds, window=3.0, hop=1.0).tolist() == [1, 1, 2, 2, 3, 10]


def test_sliding_windows_give_the_mean_of_their_embeddings(tiny_corpus):
    settings = EvaluateSettings(protocol="windows", crop_seconds=1.5, hop_seconds=0.5)
    rows = np.array([3, 40, 50, 60])
    found = protocols.embed_utterances(energies, tiny_corpus, rows, settings)
    assert found.shape == (4, 1, 2)
    for row, vector in zip(rows, found[:, 0], strict=True):
        samples = tiny_corpus.samples(row).astype(np.float64)
        room = len(samples) - 24_000
        count = 1 + int(np.ceil(room / 8_000))
        pieces = [samples[room * i // (count - 1) :][:24_000] for i in range(count)]
        assert vector[0] == pytest.approx(np.mean([np.mean(p**2) for p in pieces]), rel=1e-5)


def test_a_whole_utterance_is_one_piece(tiny_corpus):
    settings = EvaluateSettings(protocol="whole")
    found = protocols.embed_utterances(energies, tiny_corpus, np.array([7]), settings)
    samples = tiny_corpus.samples(7).astype(np.float64)
    assert found[0, 0, 0] == pytest.approx(np.mean(samples**2), rel=1e-6)


def test_training_speakers_are_embedded_only_where_a_back_end_learns_from_them(tiny_corpus):
    assert protocols.embed_training(energies, tiny_corpus, EvaluateSettings()) is None
    few = {"training_speakers": 5, "training_utterances": 3, "crops": 2, "crop_seconds": 1.0}
    settings = EvaluateSettings(backends=["cosine", "plda"], **few)
    embeddings, speakers = protocols.embed_training(energies, tiny_corpus, settings)
    assert embeddings.shape == (15, 2, 2)
    assert np.unique(speakers, return_counts=True)[1].tolist() == [3] * 5


def test_few_of_each_takes_all_there_is_where_there_is_less():
    speakers = np.array([0, 1, 1, 1, 2, 2, 1, 0])
    assert protocols.few_of_each(speakers, 9, 9).tolist() == list(range(8))
    assert protocols.few_of_each(speakers, 2, 2).tolist() == [0, 4, 5, 7]
