"""A training loop in the style of the common recipes, to compare the engine with.

Every file is read whole for one crop of it, by a DataLoader; everything is float32, in torch's
default layouts; features come from torchaudio; angular prototypical lays every utterance beside
every prototype; and the loss is looked at after each step. It has our trunks, so that the same
network is trained.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from studylib.corpora.store import SAMPLE_RATE, Corpus
from studylib.models.features import make_features
from studylib.models.trunks import TRUNKS
from studylib.training.loading import training_data
from studylib.training.sampling import BatchSampler
from studylib.training.settings import TrainSettings

CROP = 2 * SAMPLE_RATE
WORKERS = 8  # processes that read, beside a GPU


class Crops(Dataset):
    """Utterances of one speaker: each file read whole, a crop of it kept."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __getitem__(self, rows: tuple[int, ...]) -> Tensor:
        crops = []
        for row in rows:
            audio, _ = soundfile.read(self.paths[row])
            start = np.random.randint(0, len(audio) - CROP + 1)  # noqa: NPY002 as recipes do
            crops.append(audio[start : start + CROP])
        return torch.FloatTensor(np.stack(crops))


class Groups:
    """Endless batches of groups of utterances of one speaker."""

    def __init__(self, sampler: BatchSampler) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        for batch in self.sampler.batches():
            yield [tuple(group) for group in batch.tolist()]


def features_of(trunk: nn.Module) -> nn.Module:
    """The trunk's input; log-mel by torchaudio, others by ours."""
    if trunk.features != "log_mel":
        return make_features(trunk)
    return torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE, 512, 400, 160, window_fn=torch.hamming_window, n_mels=40
    )


def every_pair(embeddings: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Angular prototypical loss of (N, M, D) through a tensor of N x N x D."""
    prototypes, queries = embeddings[:, 1:].mean(1), embeddings[:, 0]
    n, d = queries.shape
    beside = queries[:, None].expand(n, n, d), prototypes[None].expand(n, n, d)
    cosines = F.cosine_similarity(*beside, dim=2)
    return F.cross_entropy(w * cosines + b, torch.arange(n, device=w.device))


def plain_loop(
    name: str,
    corpus: Corpus,
    waves: Path,
    device: torch.device,
    speakers: int,
    utterances: int,
    *,
    only_read: bool = False,
) -> Callable[..., object]:
    """A step to be called with a stopwatch; or, with `only_read`, the reading of a batch alone."""
    data = training_data(corpus)
    ids = corpus.utterances["id"].to_numpy()[data.rows]
    shape = {"speakers_per_batch": speakers, "utterances_per_speaker": utterances}
    sampler = BatchSampler(data.speakers, TrainSettings(crops=1, **shape), 0)
    on_gpu = device.type == "cuda"
    files = Crops([waves / f"{name}.wav" for name in ids])
    workers = WORKERS if on_gpu else 0
    loader = DataLoader(
        files, batch_sampler=Groups(sampler), num_workers=workers, pin_memory=on_gpu
    )
    batches = iter(loader)
    if only_read:
        return lambda: next(batches).to(device)

    torch.manual_seed(0)
    trunk = TRUNKS[name]().to(device).train()
    features = features_of(trunk).to(device)
    w, b = (nn.Parameter(torch.tensor(value, device=device)) for value in (10.0, -5.0))
    optimizer = torch.optim.Adam([*trunk.parameters(), w, b], lr=0.001)

    def step(watch) -> float:
        crops = next(batches).to(device).flatten(0, 1)
        watch.lap("loader")
        optimizer.zero_grad()
        with torch.no_grad():
            inputs = features(crops)
            if trunk.features == "log_mel":
                inputs = (inputs + 1e-6).log()
        watch.lap("features")
        embeddings = trunk(inputs)
        watch.lap("trunk")
        leaf = embeddings.detach().requires_grad_()
        loss = every_pair(leaf.unflatten(0, (speakers, utterances)), w, b)
        loss.backward()
        watch.lap("loss")
        embeddings.backward(leaf.grad)
        watch.lap("trunk")
        optimizer.step()
        watch.lap("optimizer")
        return loss.item()

    return step
