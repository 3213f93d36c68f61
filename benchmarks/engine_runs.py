"""What the engine's benchmarks run: settings and batches."""

from collections.abc import Iterator

import torch
from torch import Tensor

from studylib.corpora.store import Corpus
from studylib.training.loading import read_batches, training_data
from studylib.training.sampling import BatchSampler
from studylib.training.settings import RunSettings

SPEAKERS, UTTERANCES = 32, 2  # of a batch


def settings_of(
    trunk: str, device: torch.device, parameters: dict | None = None, **changed
) -> RunSettings:
    shape = {"speakers_per_batch": SPEAKERS, "utterances_per_speaker": UTTERANCES}
    return RunSettings(
        study="benchmark",
        name=trunk,
        corpus={"name": "benchmark", "source": "embedded"},
        loss={"name": "angular_prototypical"},
        trunk={"name": trunk} | (parameters or {}),
        train={"crops": 10**9, "device": str(device)} | shape | changed,
    )


def batches_of(
    settings: RunSettings, corpus: Corpus, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Crops and speakers of the run's batches, read when they are asked for."""
    data = training_data(corpus)
    sampler = BatchSampler(data.speakers, settings.train, 0)
    seconds = settings.train.crop_seconds
    return read_batches(data, sampler, range(10**9), seconds, slice(None), device)
