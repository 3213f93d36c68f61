"""The one training loop: every loss, every trunk, every device.

Time is counted in training crops, so that schedules, measurements and the end of a run mean the
same at every batch size. Every random choice is a pure function of the run's seed and the step, so
that a run that was killed goes on from its checkpoint and ends with the bits it would have had.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from studylib.config import RunSettings
from studylib.corpus.hygiene import KNOWN_SPEAKERS, known_speakers, known_to_model
from studylib.corpus.reader import Corpus
from studylib.errors import StudyError
from studylib.learner import Learner, build_learner
from studylib.loading import TrainingData, crop_batches, prefetch, training_data
from studylib.metrics import equal_error_rate
from studylib.models import Embedder, as_waveforms, choose_device, embed, save_model
from studylib.paths import project_root
from studylib.provenance import start_manifest, write_json
from studylib.sampling import BatchSampler, augmentation_seed
from studylib.schedules import Schedule, value_at
from studylib.scoring import trial_scores

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

    An unfinished run leaves its checkpoint under `checkpoints`, in a folder named by all that
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
        A corpus too small for the batch, a device that is not there, a loss that is not finite.
    """
    train_settings = settings.train
    device = choose_device(train_settings.device, train_settings.threads)
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
    folder = checkpoints / _fingerprint(settings, corpus, seed, manifest["source"])
    if (folder / "checkpoint.pt").exists():
        state = torch.load(folder / "checkpoint.pt", map_location=device, weights_only=True)
        learner.restore(state)
        report(f"going on from step {learner.step:,} of an interrupted run")

    loop = _Loop(settings, corpus, data, sampler, learner, device, folder, report)
    loop.run()
    if train_settings.keep == "best" and learner.best_weights:
        learner.model.trunk.load_state_dict(learner.best_weights)

    batch_size = train_settings.speakers_per_batch * train_settings.utterances_per_speaker
    manifest |= {
        "seconds": round(learner.seconds, 2),
        "steps": learner.step,
        "crops": learner.step * batch_size,
        "training_speakers": len(data.names),
        "unplaced_share": sampler.unplaced_share,
        "corpus": corpus.description,
    }
    learned = known_speakers(corpus, data.names) if learner.step else None
    _write_result(out, learner, _known_speakers(settings, learned), manifest)
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
        self.schedules = {
            key: value
            for key, value in settings.loss.parameters.items()
            if isinstance(value, Schedule)
        }
        self.augmentation = None
        if self.train.augmentation is not None:
            # Late, because it brings the sources of audio, which other runs need not load.
            from studylib.augmentation import open_augmentation

            self.augmentation = open_augmentation(self.train.augmentation, device)
        self.unchecked: list[Tensor] = []  # losses of the steps since the last look

    def run(self) -> None:
        learner = self.learner
        started, before = time.monotonic(), learner.seconds
        said = saved = started
        first = learner.step
        steps = range(first, self.steps)
        crop_seconds = self.train.crop_seconds
        batches = crop_batches(self.corpus, self.data, self.sampler, crop_seconds, steps)
        for samples, labels in prefetch(batches):
            self._step(samples.to(self.device), labels.to(self.device))
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

    def _step(self, samples: Tensor, labels: Tensor) -> None:
        """One step: N x M crops (N * M, S) int16 and the labels (N,) of their speakers."""
        learner, progress = self.learner, self.learner.step / self.steps
        for group in learner.optimizer.param_groups:
            group["lr"] = value_at(self.train.learning_rate, progress)
        for name, schedule in self.schedules.items():
            setattr(learner.criterion, name, schedule.at(progress))
        if self.augmentation is not None:
            samples = self._augmented(samples)
        half = self.train.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            embeddings = learner.model(samples)
        grouped = embeddings.unflatten(0, (len(labels), -1))
        loss = learner.criterion(grouped, labels)
        learner.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        learner.optimizer.step()
        self.unchecked.append(loss.detach())

    def _augmented(self, samples: Tensor) -> Tensor:
        """Crops (N * M, S) int16 -> float32, with what this step of this run draws."""
        seed = augmentation_seed(seed=self.sampler.seed, step=self.learner.step)
        generator = torch.Generator(self.device).manual_seed(seed)
        return self.augmentation(as_waveforms(samples), generator)

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
        } | {name: schedule.at(progress) for name, schedule in self.schedules.items()}
        learner.losses = []
        if self._is_due(self.train.measurements):
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
        self.checkpoint_folder.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint_folder / "checkpoint.pt.partial"
        torch.save(self.learner.state(), partial)
        partial.replace(self.checkpoint_folder / "checkpoint.pt")


def development_eer(model: Embedder, corpus: Corpus, scoring: str, device: torch.device) -> float:
    """EER on the development trials with one 4-s crop of each utterance: quick, for the curve."""
    trials = corpus.trials("dev")
    rows = np.unique(trials[["first", "second"]].to_numpy())
    embeddings = embed(model, corpus, rows, crops=1, crop_seconds=4.0, device=device)
    first, second = (np.searchsorted(rows, trials[side].to_numpy()) for side in ("first", "second"))
    scores = trial_scores(embeddings, first, second, scoring=scoring)
    return equal_error_rate(scores, trials["target"].to_numpy())


def _fingerprint(settings: RunSettings, corpus: Corpus, seed: int, source: str) -> str:
    """A name for all that decides a run's outcome."""
    decisive = settings.model_dump(mode="json", exclude={"train": {"checkpoint_seconds"}})
    document = json.dumps([decisive, corpus.description, seed, source], sort_keys=True)
    return f"{settings.name}-{seed}-{hashlib.sha256(document.encode()).hexdigest()[:12]}"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _known_speakers(settings: RunSettings, learned: dict | None) -> list[dict]:
    """Whom the model knows: those it learned, if any, and those of its initial weights."""
    start = settings.train.initial_weights
    before = known_to_model(project_root() / start) if start else None
    return (before or []) + ([learned] if learned else [])


def _write_result(out: Path, learner: Learner, known: list[dict], manifest: dict[str, Any]) -> None:
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_model(learner.model, partial / "model.safetensors", scoring=learner.criterion.scoring)
    columns = None if learner.curve else ["crops", "step", "epoch", "loss", "learning_rate"]
    pd.DataFrame(learner.curve, columns=columns).to_csv(partial / "curve.csv", index=False)
    write_json(partial / KNOWN_SPEAKERS, known)
    write_json(partial / "manifest.json", manifest)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
