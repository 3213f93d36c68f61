"""Trainings killed at random moments, gone on with, and killed again: do they end in the same bits?

    python -m benchmarks.killing [--trainings 20] [--kills 1]

writes killing.md beside this file. Each training is a process of its own, killed with kill -9 at a
moment drawn uniformly between its start and its end when nobody disturbs it. Processes are forked
from one that has imported all that they need, so that kills fall into the training itself.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.engine import CORPUS
from benchmarks.engine_runs import settings_of
from benchmarks.measuring import processor
from studylib.corpora.store import open_corpus
from studylib.corpora.synthetic.embedded import prepare
from studylib.evaluation.development import development_eer
from studylib.training.loop import train

OUT = Path(__file__).with_suffix(".md")
LOSS = {
    "name": "triplet",
    "margin": 0.3,
    "hard_fraction": {"initial": 1.0, "final": 0.1, "begins": 0.2, "shape": "step"},
}
TRAIN = {
    "crops": 1920,
    "threads": 1,
    "measurements": 2,
    "keep": "best",
    "checkpoint_seconds": 0.1,
    "augmentation": {"room_chance": 0.5},
}
FILES = (
    "model.safetensors",
    "loss.safetensors",
    "curve.csv",
    "known_speakers.json",
    "training.json",
)


def train_here(folder: Path, corpus: Path) -> None:
    settings = settings_of("compact_tdnn", "cpu", {"channels": 16, "embedding_dim": 64}, **TRAIN)
    settings = type(settings).model_validate(settings.model_dump() | {"loss": LOSS})
    keys = {"checkpoints": folder / "checkpoints", "key": "killing", "measure": development_eer}
    train(settings, open_corpus(corpus), 0, folder / "model", report=list, **keys)


def start(folder: Path, corpus: Path) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=train_here, args=(folder, corpus))
    process.start()
    return process


def files_of(folder: Path) -> list[bytes]:
    return [(folder / "model" / name).read_bytes() for name in FILES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainings", type=int, default=20)
    parser.add_argument("--kills", type=int, default=1, help="of each training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    same = killed = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        corpus = prepare(CORPUS, root / "corpus", workers=1, progress=False).folder
        train_here(root / "first", corpus)  # imports what torch imports late
        began = time.monotonic()
        start(root / "whole", corpus).join()
        seconds, expected = time.monotonic() - began, files_of(root / "whole")
        for number in range(options.trainings):
            folder = root / str(number)
            for _ in range(options.kills):
                process = start(folder, corpus)
                time.sleep(rng.uniform(0, seconds))
                killed += process.is_alive()
                process.kill()
                process.join()
            start(folder, corpus).join()
            same += files_of(folder) == expected
            print(f"{same} of {number + 1} the same, {killed} kills", flush=True)
    text = (
        f"# Killed trainings\n\nWritten by `python -m benchmarks.killing`. On: {processor()}.\n\n"
        f"{same} of {options.trainings} trainings of {seconds:.0f} s (triplet with a schedule, "
        f"rooms drawn on the way, best of 2 measurements), killed with kill -9 at {killed} random "
        f"moments and gone on with, left the same bytes in {', '.join(FILES)} as the one that "
        "nobody disturbed.\n"
    )
    OUT.write_text(text, encoding="utf-8")
    print(text)
    sys.exit(same < options.trainings)


if __name__ == "__main__":
    main()
