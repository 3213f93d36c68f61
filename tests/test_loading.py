"""The same crops whichever way they come: in the background, from the device, whole or in parts."""

import numpy as np
import pytest
import torch
from pair import settings_of
from safetensors.torch import load_file

from studylib.corpora.writing import Utterance, write_corpus
from studylib.errors import StudyError
from studylib.training.loading import Loader, UnreadCrops, _is_to_reside, training_data
from studylib.training.loop import train
from studylib.training.sampling import BatchSampler

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CROP = 0.5  # s
LENGTHS = (3_000, 8_000, 8_001, 20_000)  # samples; a crop has 8,000
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Five speakers with utterances shorter and longer than a crop; not all are for training."""
    rng = np.random.default_rng(0)
    utterances = [
        Utterance(
            id=f"{speaker}-{split}-{length}",
            speaker=f"{speaker}-{split}",
            session=f"{speaker}-{length}",
            split=split,
            samples=rng.integers(-(2**15), 2**15, length, dtype=np.int16),
        )
        for speaker in range(5)
        for split in ("dev", "train")
        for length in LENGTHS
    ]
    description = {"source": "noise", "version": "1", "settings": {}, "licence": "none"}
    folder = tmp_path_factory.mktemp("corpus") / "noise"
    return write_corpus(folder, utterances, trials={}, description=description)


def loader_and_sampler(corpus, audio: str, device=CPU) -> tuple[Loader, BatchSampler]:
    data = training_data(corpus)
    numbers = {"speakers_per_batch": 4, "utterances_per_speaker": 2}
    sampler = BatchSampler(data.speakers, max_utterances_per_speaker=100, seed=3, **numbers)
    return Loader(corpus, data, CROP, device, audio=audio, pinned=True), sampler


def batches(corpus, audio: str, *, device=CPU, **keys) -> list[tuple]:
    loader, sampler = loader_and_sampler(corpus, audio, device)
    return list(loader.batches(sampler, range(2, 9), **keys))


def assert_equal(first: list[tuple], second: list[tuple]) -> None:
    assert len(first) == len(second) == 7
    for (samples, labels), (others, other_labels) in zip(first, second, strict=True):
        assert torch.equal(samples.cpu(), others.cpu())
        assert torch.equal(labels.cpu(), other_labels.cpu())


def test_crops_are_those_of_the_corpus_with_their_speakers(corpus):
    loader, sampler = loader_and_sampler(corpus, "memory_map")
    mapped = batches(corpus, "memory_map")
    for (unread, _), (samples, labels) in zip(
        loader.drawn(sampler, range(2, 9)), mapped, strict=True
    ):
        rows = loader.data.rows[unread.utterances]
        for crop, row, start in zip(samples, rows, unread.starts, strict=True):
            whole = np.tile(corpus.samples(row), 3)
            assert (crop.numpy() == whole[start : start + 8000]).all()
        names = corpus.utterances["speaker"].to_numpy()[rows]
        assert names[::2].tolist() == names[1::2].tolist() == loader.data.names[labels].tolist()


def test_audio_on_the_device_gives_the_same_crops(corpus):
    assert loader_and_sampler(corpus, "device")[0].resident.dtype == torch.int16
    assert_equal(batches(corpus, "memory_map"), batches(corpus, "device"))


@pytest.mark.parametrize("audio", ["memory_map", "device"])
def test_unread_crops_give_the_same_in_parts(corpus, audio):
    unread = batches(corpus, audio, at_once=3)
    assert all(isinstance(crops, UnreadCrops) and len(crops) == 8 for crops, _ in unread)
    parts = [
        (torch.cat([part.to(CPU) for part in crops.split([3, 3, 2])]), labels)
        for crops, labels in unread
    ]
    assert_equal(parts, batches(corpus, audio, at_once=8))


@pytest.mark.parametrize("audio", ["memory_map", "device"])
def test_a_part_of_each_batch_is_its_rows(corpus, audio):
    reads = np.array([5, 0, 1])
    whole = [(samples[reads], labels) for samples, labels in batches(corpus, audio)]
    assert_equal(whole, batches(corpus, audio, reads=reads))


def test_audio_stays_in_the_memory_map_unless_a_gpu_has_room_for_it(corpus, monkeypatch):
    assert loader_and_sampler(corpus, "auto")[0].resident is None
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100 * 2**30, 0))
    assert _is_to_reside("auto", CUDA, 40 * 2**30)
    assert not _is_to_reside("auto", CUDA, 60 * 2**30)
    assert _is_to_reside("device", CUDA, 60 * 2**30)
    assert not _is_to_reside("memory_map", CUDA, 1)
    with pytest.raises(StudyError, match=r"audio takes 110.0 GiB and 100.0 GiB are free"):
        _is_to_reside("device", CUDA, 110 * 2**30)


def test_a_run_has_the_same_bits_wherever_the_audio_lies(tiny_corpus, tmp_path):
    def trained(audio: str, chunk: int) -> dict[str, torch.Tensor]:
        keys = {"crop_seconds": 0.5, "threads": 1, "device": "cpu", "learning_rate": 0.01}
        loss = {"name": "angular_prototypical"}
        settings = settings_of(loss, audio=audio, chunk_crops=chunk, **(keys | {"crops": 36}))
        out = tmp_path / f"{audio}-{chunk}"
        train(settings, tiny_corpus, 0, out, checkpoints=tmp_path / "c", report=lambda line: None)
        return load_file(out / "model.safetensors")

    for chunk in (0, 4):
        mapped, resident = trained("memory_map", chunk), trained("device", chunk)
        assert all(torch.equal(mapped[key], resident[key]) for key in mapped)


@needs_cuda
@pytest.mark.parametrize("at_once", [0, 3])
def test_a_gpu_gets_the_same_crops_and_none_is_overwritten_on_its_way(corpus, at_once):
    def read(batch: tuple) -> tuple:
        return batch[0].to(CUDA), batch[1]

    expected = batches(corpus, "memory_map")
    for audio in ("memory_map", "device"):
        found = batches(corpus, audio, device=CUDA, at_once=at_once)
        assert_equal([read(batch) for batch in found], expected)
