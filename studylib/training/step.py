"""One training step: crops to embeddings to the loss, and what the optimizer makes of it."""

from contextlib import closing

import torch
from torch import Tensor, nn

from studylib.errors import StudyError
from studylib.losses.schedules import Schedule, value_at
from studylib.models.embedder import as_waveforms
from studylib.training.distributed import (
    gather,
    parallel,
    share_gradients,
    shared_out,
    world_size,
)
from studylib.training.gradient_caching import backward_in_chunks, in_chunks
from studylib.training.learner import Learner
from studylib.training.loading import UnreadCrops, read_ahead
from studylib.training.optimizers import zero_grad
from studylib.training.sampling import augmentation_seed
from studylib.training.settings import RunSettings


class TrainingStep:
    """What a run does with each batch, whatever its loss, its chunks and its processes.

    Parameters
    ----------
    settings : RunSettings
    learner : Learner
        Changed by each step, but for its count of steps.
    seed : int
        The run's.
    device : torch.device

    Attributes
    ----------
    rows : (b,) int64
        Places in the batch of the crops that this process embeds, on the device; all of them, if
        it is alone.
    reads : (b,) int64 or None
        Places of the crops to call it with; None for the whole batch. Augmentation draws for a
        whole batch at once, so with it every process reads and augments all crops.

    Raises
    ------
    StudyError
        If the batch cannot be shared out among the processes.
    """

    def __init__(
        self, settings: RunSettings, learner: Learner, seed: int, device: torch.device
    ) -> None:
        self.train, self.learner, self.seed, self.device = settings.train, learner, seed, device
        self.schedules = {
            key: value
            for key, value in settings.loss.parameters.items()
            if isinstance(value, Schedule)
        }
        self.augmentation = None
        if self.train.augmentation is not None:
            # Late, because it brings the sources of audio, which other runs need not load.
            from studylib.training.augmentation import Augmentation

            self.augmentation = Augmentation(self.train.augmentation, device, seed)
        self._share_out()
        self.model = parallel(learner.model, device)

    def _share_out(self) -> None:
        """Cut the batch into chunks, and each chunk into one part for each process."""
        n, k = self.train.speakers_per_batch, world_size()
        self.total = n * self.train.utterances_per_speaker
        chunks = in_chunks(self.total, self.train.chunk_crops)
        if n % k:
            raise StudyError(
                f"train.speakers_per_batch is {n}: expected a multiple of the {k} processes"
            )
        if min(len(chunk) for chunk in chunks) < k:
            raise StudyError(
                f"train.chunk_crops is {self.train.chunk_crops}, too few for {k} processes: "
                f"expected more, or 0"
            )
        modules = self.learner.model.modules()
        if min(map(len, chunks)) < 2 and any(isinstance(m, nn.BatchNorm1d) for m in modules):
            raise StudyError(
                f"a batch of {self.total} crops in {len(chunks)} chunks leaves one crop alone, "
                f"which batch normalisation cannot normalise: expected another train.chunk_crops"
            )
        parts = [shared_out(chunk) for chunk in chunks]
        self.sizes = [len(part) for part in parts]
        self.shares = [len(chunk) / self.total for chunk in chunks]
        rows = torch.tensor([row for part in parts for row in part])
        self.rows = rows.to(self.device)  # here, because in a step the host would wait for it
        self.reads = rows if k > 1 and self.augmentation is None else None

    def __call__(
        self, samples: Tensor | UnreadCrops, labels: Tensor, step: int, progress: float
    ) -> Tensor:
        """Take one step.

        Parameters
        ----------
        samples : (b, S) or (N * M, S) int16
            The crops that `reads` names, on any device: chunks are brought to the run's one by one;
            or such crops unread.
        labels : (N,) int64
            The speakers of the whole batch.
        step : int
            How many steps were before; decides what augmentation draws.
        progress : float
            Share of the run that is done, for the schedules.

        Returns
        -------
        scalar tensor
            The loss of the whole batch, on the device; nobody has waited for it.
        """
        learner = self.learner
        for name, schedule in self.schedules.items():
            setattr(learner.criterion, name, schedule.at(progress))
        if self.augmentation is not None:
            samples = self._augmented(samples, step)
        zero_grad(learner.optimizer.parameters)
        loss = self._backward(samples, labels.to(self.device))
        share_gradients(learner.criterion)
        learner.optimizer.step(value_at(self.train.learning_rate, progress))
        return loss

    def _augmented(self, samples: Tensor, step: int) -> Tensor:
        """Crops (N * M, S) int16 -> this process's, float32, with what this step draws."""
        seed = augmentation_seed(seed=self.seed, step=step)
        generator = torch.Generator(self.device).manual_seed(seed)
        augmented = self.augmentation(as_waveforms(samples.to(self.device)), generator)
        return augmented[self.rows] if world_size() > 1 else augmented

    def _backward(self, samples: Tensor | UnreadCrops, labels: Tensor) -> Tensor:
        def loss_of(embeddings: Tensor) -> Tensor:
            return self.learner.criterion(embeddings.unflatten(0, (len(labels), -1)), labels)

        if len(self.sizes) > 1:
            chunks = samples.split(self.sizes)
            with closing(read_ahead([*chunks, *chunks])) as crops:  # as they are embedded
                return backward_in_chunks(
                    self.model,
                    lambda _: self._embed(next(crops)),
                    chunks,
                    self.shares,
                    self.rows,
                    self.total,
                    loss_of,
                )
        loss = loss_of(gather(self._embed(samples), self.rows, self.total))
        loss.backward()
        return loss.detach()

    def _embed(self, samples: Tensor | UnreadCrops) -> Tensor:
        half = self.train.precision == "bfloat16"
        samples = samples.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            return self.model(samples)
