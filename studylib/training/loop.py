"""The one training loop: draw, read, embed, loss, step, measure, save.

Time is counted in training crops, so that schedules, measurements and the end of a run mean the
same at every batch size. Every random choice is a pure function of the run's seed and the step, so
that a run that was killed goes on from its checkpoint and ends with the bits it would have had.
"""

import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studylib.corpora.store import Corpus
from studylib.files.disk import explained_full_disk
from studylib.losses.schedules import value_at
from studylib.models.devices import choose_device
from studylib.models.embedder import Embedder, as_waveforms
from studylib.training import checkpoints as disk
from studylib.training import distributed
from studylib.training.acceleration import enough_memory, set_arithmetic
from studylib.training.gradient_caching import backward_in_chunks, share_out
from studylib.training.learner import (
    Learner,
    build_learner,
    drop_gradients,
    finite,
    is_due,
    scheduled,
)
from studylib.training.loading import prefetch, read_batches, training_data
from studylib.training.sampling import BatchSampler, augmentation_seed
from studylib.training.settings import RunSettings

CURVE_ROWS = 100
LONGEST_UNCHECKED = 50  # steps between checks of the losses, each of which waits for the device
REPORT_SECONDS = 5.0

Measure = Callable[[Embedder, Corpus, str, torch.device], float]


def train(
    settings: RunSettings,
    corpus: Corpus,
    seed: int,
    out: Path,
    *,
    checkpoints: Path,
    key: str,
    measure: Measure | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train one run and write `out`: the model, its training speakers, curve.csv, training.json.

    Processes that torchrun started train it together; see `distributed`. An unfinished run leaves
    its checkpoints under `checkpoints`, in a folder named by all that decides its outcome; the
    same call goes on from there. If `out` already holds the result, nothing is trained.

    Parameters
    ----------
    settings : RunSettings
    corpus : Corpus
        Its split `train` is trained on.
    seed : int
        Decides initial weights, batches, crops and the loss's own draws.
    out : Path
        Replaced when the run is whole.
    checkpoints : Path
    key : str
        Digest of all else that decides the weights: settings and code.
    measure : callable, optional
        Model, corpus, scoring and device to the development EER, taken `train.measurements` times.
    report : callable
        Called with a line of text every few seconds.

    Returns
    -------
    dict
        Wall-clock facts: seconds, device, processes. Empty if nothing was trained, and in all
        processes but the first.

    Raises
    ------
    StudyError
        A corpus too small for the batch, a device that is not there or has too
        little memory, a loss that is not finite, processes among which the batch cannot be shared
        out, a full disk.
    """
    keys = settings.train
    identity = {"key": key, "seed": seed, "corpus": corpus.description["checksums"]}
    folder = disk.checkpoint_folder(checkpoints, settings.name, identity)
    device = choose_device(keys.device, keys.threads)
    together = distributed.process_group(device, keys.threads)
    full_disk = explained_full_disk(checkpoints, "training")
    with together as device, disk.locked(folder), enough_memory(device), full_disk:
        is_first = distributed.rank() == 0  # this process alone measures, reports and writes
        if distributed.from_first_process(is_first and disk.is_whole(out, identity)):
            shutil.rmtree(folder, ignore_errors=True)
            return {}
        set_arithmetic(keys, device)
        data = training_data(corpus, keys.training_speakers)
        sampler = BatchSampler(data.speakers, keys, seed)
        learner = build_learner(settings, len(data.names), seed, device)
        disk.restore(learner, folder, device, report)
        training_step = TrainingStep(settings, learner, seed, device)
        steps = -(-keys.crops // keys.batch_crops)
        to_go, places = range(learner.step, steps), training_step.share.places.cpu().numpy()
        batches = read_batches(data, sampler, to_go, keys.crop_seconds, places, device)
        unchecked: list[Tensor] = []  # losses since the last check
        last = reported = saved = time.monotonic()

        for samples, labels in prefetch(batches):
            unchecked.append(training_step(samples, labels, learner.step, learner.step / steps))
            learner.step += 1

            to_measure = measure is not None and is_due(keys.measurements, learner.step, steps)
            to_write = to_measure or is_due(CURVE_ROWS, learner.step, steps)
            if not to_write and len(unchecked) < LONGEST_UNCHECKED:
                continue
            learner.losses += finite(unchecked, settings, learner.step, steps)
            unchecked = []
            if to_write:
                row = learner.curve_row(settings, sampler.steps_per_epoch, steps)
                if to_measure and is_first:
                    scoring = learner.criterion.scoring
                    row["dev_eer"] = measure(learner.model, corpus, scoring, device)
                    if keys.keep == "best":
                        learner.keep_if_best(row["dev_eer"])
                learner.curve.append(row)
            now = time.monotonic()
            learner.seconds, last = learner.seconds + now - last, now
            if is_first and (now - reported > REPORT_SECONDS or learner.step == steps):
                report(learner.progress_line(keys.batch_crops, steps))
                reported = now
            if is_first and now - saved > keys.checkpoint_seconds and learner.step < steps:
                disk.save_checkpoint(learner, folder)
                saved = time.monotonic()

        if not is_first:
            return {}
        record = {"steps": learner.step, "crops": learner.step * keys.batch_crops}
        record |= {"training_speakers": len(data.names), "unplaced_share": sampler.unplaced_share}
        disk.write_result(out, learner, settings, data, identity | record)
        shutil.rmtree(folder, ignore_errors=True)
        return {
            "seconds": round(learner.seconds, 2),
            "device": device.type,
            "processes": distributed.world_size(),
        }


class TrainingStep:
    """What a run does with each batch: embed, loss, gradients, weights.

    Parameters
    ----------
    settings : RunSettings
    learner : Learner
        Changed by each step, except its count of steps.
    seed : int
        The run's.
    device : torch.device

    Attributes
    ----------
    share : Share
        The part of each batch that this process embeds.

    Raises
    ------
    StudyError
        If the batch cannot be shared out among chunks and processes.
    """

    def __init__(self, settings: RunSettings, learner: Learner, seed: int, device: torch.device):
        self.settings, self.learner, self.seed, self.device = settings, learner, seed, device
        self.share, self.augmentation = share_out(settings.train, device), None
        if settings.train.augmentation is not None:
            # Late, so that no other run loads, or depends on, what makes noises and rooms.
            from studylib.training.augmentation import Augmentation

            self.augmentation = Augmentation(settings.train.augmentation, device, seed)

    def __call__(self, samples: Tensor, labels: Tensor, step: int, progress: float) -> Tensor:
        """Take one step.

        Parameters
        ----------
        samples : (b, S) int16
            The crops of this process, on any device: chunks are brought to the run's one by one.
        labels : (N,) int64
            The speakers of the whole batch.
        step : int
            Number of earlier steps; decides what augmentation draws.
        progress : float
            Share of the run that is done, for the schedules.

        Returns
        -------
        scalar tensor
            The loss of the whole batch, on the device, not synchronised.
        """
        learner, share = self.learner, self.share
        for name, value in scheduled(self.settings, progress).items():
            setattr(learner.criterion, name, value)
        labels = labels.to(self.device, non_blocking=True)
        if self.augmentation is not None:
            drawn_by = augmentation_seed(seed=self.seed, step=step)
            generator = torch.Generator(self.device).manual_seed(drawn_by)
            waveforms = as_waveforms(samples.to(self.device))
            samples = self.augmentation(waveforms, generator, share.places, share.total)

        def loss_of(embeddings: Tensor) -> Tensor:  # (N * M, D)
            return learner.criterion(embeddings.unflatten(0, (len(labels), -1)), labels)

        learner.optimizer.zero_grad()
        if len(share.sizes) == 1:
            embeddings = distributed.gather(self._embed(samples), share.places, share.total)
            loss = loss_of(embeddings)
            loss.backward()
        else:
            loss = backward_in_chunks(learner.model, self._embed, samples, share, loss_of)
        distributed.add_up_gradients(learner.model, learner.criterion)
        drop_gradients(learner.model, self.settings.train, progress)
        rate = value_at(self.settings.train.learning_rate, progress)
        learner.optimizer.param_groups[0]["lr"] = rate
        learner.optimizer.step()
        return loss.detach()

    def _embed(self, samples: Tensor) -> Tensor:
        half = self.settings.train.precision == "bfloat16"
        samples = samples.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext():
            return self.learner.model(samples)
