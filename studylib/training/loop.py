"""The one training loop: every loss, every trunk, every device.

Time is counted in training crops, so that schedules, measurements and the end of a run mean the
same at every batch size. Every random choice is a pure function of the run's seed and the step, so
that a run that was killed goes on from its checkpoint and ends with the bits it would have had.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from studylib.corpora.hygiene import known_speakers
from studylib.corpora.store import Corpus
from studylib.errors import StudyError
from studylib.evaluation.scores import trial_scores
from studylib.losses.schedules import value_at
from studylib.models.devices import choose_device, usable_cores
from studylib.models.embedder import Embedder, embed
from studylib.pipeline.provenance import start_manifest
from studylib.statistics.error_rates import equal_error_rate
from studylib.training.acceleration import set_arithmetic
from studylib.training.checkpoints import (
    fingerprint,
    known_to_learner,
    restore_checkpoint,
    save_checkpoint,
    write_result,
)
from studylib.training.distributed import process_group, rank, require_agreement, world_size
from studylib.training.learner import Learner, build_learner
from studylib.training.loading import Loader, TrainingData, training_data
from studylib.training.sampling import BatchSampler
from studylib.training.settings import RunSettings
from studylib.training.step import TrainingStep

CURVE_ROWS = 100
LONGEST_UNCHECKED = 50  # steps between two looks at the losses, each of which waits for the device


def train(
    settings: RunSettings,
    corpus: Corpus,
    seed: int,
    out: Path,
    *,
    checkpoints: Path,
    report: Callable[[str], None] = print,
) -> None:
    """Train one run and write `out`: the model, whom it knows, its curve.csv and manifest.json.

    Processes that torchrun started train it together; see `distributed`. An unfinished
    run leaves its checkpoint under `checkpoints`, in a folder named by all that
    decides its outcome; the same call goes on from there.

    Parameters
    ----------
    settings : RunSettings
    corpus : Corpus
        Its split `train` is learned; its trial list `dev`, if any, is measured on the way.
    seed : int
        Decides initial weights, batches, crops and the loss's own draws.
    out : Path
        Replaced when the run is whole.
    checkpoints : Path
    report : callable
        Called with a line of text every few seconds.

    Raises
    ------
    StudyError
        A negative seed, a corpus too small for the batch, a device that is not there or has too
        little memory, a loss that is not finite, processes among which the batch cannot be shared
        out, one of them gone.
    """
    if seed < 0:
        raise StudyError(f"the seed is {seed}: expected 0 or more")
    device = choose_device(settings.train.device, settings.train.threads)
    together = process_group(device, settings.train.threads, usable_cores())
    with together as device, _enough_memory(device):
        _train(settings, corpus, seed, out, checkpoints, report, device)


@contextlib.contextmanager
def _enough_memory(device: torch.device) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate" not in str(error):
            raise
        raise StudyError(
            f"the memory of {_device_name(device)} does not hold a step: expected a batch in "
            f"(smaller) chunks, train.chunk_crops, or audio left on disk, train.audio: memory_map"
        ) from None


def _train(
    settings: RunSettings,
    corpus: Corpus,
    seed: int,
    out: Path,
    checkpoints: Path,
    report: Callable[[str], None],
    device: torch.device,
) -> None:
    train_settings = settings.train
    set_arithmetic(train_settings, device)
    if rank() > 0:
        report = _silent
    manifest = start_manifest(
        settings.model_dump(mode="json"), seed, _device_name(device), __file__
    )
    data = training_data(corpus, train_settings.training_speakers)
    sampler = BatchSampler(
        data.speakers,
        speakers_per_batch=train_settings.speakers_per_batch,
        utterances_per_speaker=train_settings.utterances_per_speaker,
        max_utterances_per_speaker=train_settings.max_utterances_per_speaker,
        seed=seed,
    )
    learner = build_learner(settings, len(data.names), seed, device)
    folder = checkpoints / fingerprint(settings, corpus, seed, manifest["source"])
    if restore_checkpoint(learner, folder, device):
        report(f"going on from step {learner.step:,} of an interrupted run")
    require_agreement(learner.step, device)

    loop = _Loop(settings, corpus, data, sampler, learner, device, folder, report)
    loop.run()
    if rank() > 0:
        return
    if train_settings.keep == "best" and learner.best_weights:
        learner.model.trunk.load_state_dict(learner.best_weights)

    batch_size = train_settings.speakers_per_batch * train_settings.utterances_per_speaker
    manifest |= {
        "seconds": round(learner.seconds, 2),
        "steps": learner.step,
        "crops": learner.step * batch_size,
        "training_speakers": len(data.names),
        "unplaced_share": sampler.unplaced_share,
        "processes": world_size(),
        "corpus": corpus.description,
    }
    learned = known_speakers(corpus, data.names) if learner.step else None
    write_result(out, learner, known_to_learner(settings, learned), manifest)
    shutil.rmtree(folder, ignore_errors=True)


class _Loop:
    """The steps of one run, from the learner's present step to the last."""

    def __init__(
        self,
        settings: RunSettings,
        corpus: Corpus,
        data: TrainingData,
        sampler: BatchSampler,
        learner: Learner,
        device: torch.device,
        checkpoint_folder: Path,
        report: Callable[[str], None],
    ) -> None:
        self.settings, self.train = settings, settings.train
        self.corpus, self.data = corpus, data
        self.sampler, self.learner, self.device = sampler, learner, device
        self.checkpoint_folder, self.report = checkpoint_folder, report
        self.batch_size = self.train.speakers_per_batch * self.train.utterances_per_speaker
        self.steps = -(-self.train.crops // self.batch_size)
        self.step = TrainingStep(settings, learner, sampler.seed, device)
        self.unchecked: list[Tensor] = []  # losses of the steps since the last look

    def run(self) -> None:
        learner = self.learner
        started, before = time.monotonic(), learner.seconds
        said = saved = started
        first = learner.step
        steps = range(first, self.steps)
        loader = Loader(
            self.corpus,
            self.data,
            self.train.crop_seconds,
            self.device,
            audio=self.train.audio,
            pinned=self.train.pinned_memory,
        )
        chunk = 0 if self.train.augmentation else self.train.chunk_crops
        for samples, labels in loader.batches(
            self.sampler, steps, reads=self.step.reads, at_once=chunk
        ):
            loss = self.step(samples, labels, learner.step, learner.step / self.steps)
            self.unchecked.append(loss)
            learner.step += 1
            last = learner.step == self.steps
            due = self._is_due(CURVE_ROWS) or self._is_due(self.train.measurements)
            if due or len(self.unchecked) >= LONGEST_UNCHECKED:
                self._look()
                now = time.monotonic()
                learner.seconds = before + now - started
                if due:
                    self._add_row()
                if now - said > 5 or last:
                    self.report(self._line((learner.step - first) / (now - started)))
                    said = now
                if now - saved > self.train.checkpoint_seconds and not last:
                    self._save_checkpoint()
                    saved = time.monotonic()

    def _is_due(self, times: int) -> bool:
        """Whether this step is one of `times` steps spread evenly over the run."""
        step = self.learner.step
        return times > 0 and step * times // self.steps > (step - 1) * times // self.steps

    def _look(self) -> None:
        """Fetch the losses of the last steps; stop at the first that is not finite."""
        losses = torch.stack(self.unchecked).tolist()
        for index, loss in enumerate(losses):
            if not np.isfinite(loss):
                step = self.learner.step - len(losses) + index + 1
                rate = value_at(self.train.learning_rate, (step - 1) / self.steps)
                raise StudyError(
                    f"run {self.settings.name}: the loss {self.settings.loss.name} is {loss} at "
                    f"step {step:,} of {self.steps:,}, learning rate {rate:.3g}; the last good "
                    f"checkpoint, if one was due before, is kept"
                )
        self.learner.losses += losses
        self.unchecked = []

    def _add_row(self) -> None:
        learner, progress = self.learner, self.learner.step / self.steps
        row = {
            "crops": learner.step * self.batch_size,
            "step": learner.step,
            "epoch": learner.step / self.sampler.steps_per_epoch,
            "loss": float(np.mean(learner.losses)),
            "learning_rate": value_at(self.train.learning_rate, progress),
            "seconds": round(learner.seconds, 3),
        } | {name: schedule.at(progress) for name, schedule in self.step.schedules.items()}
        learner.losses = []
        if self._is_due(self.train.measurements) and rank() == 0:  # the others wait
            row["dev_eer"] = self._measure()
        learner.curve.append(row)

    def _measure(self) -> float:
        learner = self.learner
        eer = development_eer(learner.model, self.corpus, learner.criterion.scoring, self.device)
        if self.train.keep == "best" and eer < learner.best_eer:
            learner.best_eer = eer
            weights = learner.model.trunk.state_dict()
            learner.best_weights = {name: value.clone() for name, value in weights.items()}
        return eer

    def _line(self, steps_per_second: float) -> str:
        step, row = self.learner.step, self.learner.curve[-1] if self.learner.curve else {}
        left = (self.steps - step) / steps_per_second
        loss = f", loss {row['loss']:.3f}" if row else ""
        dev = f", dev EER {100 * row['dev_eer']:.1f} %" if "dev_eer" in row else ""
        return (
            f"{step * self.batch_size:,} of {self.steps * self.batch_size:,} crops"
            f"{loss}{dev}, {steps_per_second * self.batch_size:,.0f} crops/s, {left:.0f} s left"
        )

    def _save_checkpoint(self) -> None:
        if rank() == 0:
            save_checkpoint(self.learner, self.checkpoint_folder)


def development_eer(model: Embedder, corpus: Corpus, scoring: str, device: torch.device) -> float:
    """EER on the development trials with one 4-s crop of each utterance: quick, for the curve."""
    trials = corpus.trials("dev")
    rows = np.unique(trials[["first", "second"]].to_numpy())
    embeddings = embed(model, corpus, rows, crops=1, crop_seconds=4.0, device=device)
    first, second = (np.searchsorted(rows, trials[side].to_numpy()) for side in ("first", "second"))
    scores = trial_scores(embeddings, first, second, scoring=scoring)
    return equal_error_rate(scores, trials["target"].to_numpy())


def _silent(line: str) -> None:
    """What all processes but the first report."""


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
