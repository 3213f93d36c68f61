"""What the engine's benchmarks run: settings and batches."""

import torch

from studylib.corpora.store import Corpus
from studylib.training.loading import Loader, training_data
from studylib.training.sampling import BatchSampler
from studylib.training.settings import RunSettings

SPEAKERS, UTTERANCES = 32, 2  # of a batch


def settings_of(trunk: str, device: torch.device, **changed) -> RunSettings:
    precision = "bfloat16" if device.type == "cuda" else "float32"
    shape = {"speakers_per_batch": SPEAKERS, "utterances_per_speaker": UTTERANCES}
    return RunSettings(
        study="benchmark",
        name=trunk,
        corpus={"name": "benchmark", "source": "embedded"},
        loss={"name": "angular_prototypical"},
        trunk={"name": trunk},
        train={"crops": 10**9, "precision": precision, "device": str(device)} | shape | changed,
    )


def loader_and_sampler(
    settings: RunSettings, corpus: Corpus, device: torch.device
) -> tuple[Loader, BatchSampler]:
    keys, data = settings.train, training_data(corpus)
    loader = Loader(
        corpus, data, keys.crop_seconds, device, audio=keys.audio, pinned=keys.pinned_memory
    )
    numbers = (keys.speakers_per_batch, keys.utterances_per_speaker)
    sampler = BatchSampler(
        data.speakers,
        speakers_per_batch=numbers[0],
        utterances_per_speaker=numbers[1],
        max_utterances_per_speaker=keys.max_utterances_per_speaker,
        seed=0,
    )
    return loader, sampler
