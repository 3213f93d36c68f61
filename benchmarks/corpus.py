"""The corpus: how long the embedded one takes to make, how fast crops are read, how hard it is.

    OMP_NUM_THREADS=1 python -m benchmarks.corpus [FOLDER]

writes corpus.md beside this file. Corpora are kept in FOLDER (by default a temporary one) and made
again only where they are missing. A busy machine makes everything slower: processor seconds are
given beside seconds on the clock.
"""

import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measuring import markdown, processor
from studylib.corpora.acoustics import PRESETS, apply_session, draw_session
from studylib.corpora.store import SAMPLE_RATE
from studylib.corpora.synthetic.embedded import prepare
from studylib.corpora.synthetic.settings import EmbeddedSettings

WORKERS = 2
PRESET_SIZE = EmbeddedSettings(
    n_train_speakers=200, n_dev_speakers=1, dev_utterances=1, n_test_speakers=40
)


def processor_seconds() -> float:
    """Of this process and of the helpers that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def build(folder: Path) -> str:
    """Make the study's corpus with two processes."""
    began, used = time.perf_counter(), processor_seconds()
    corpus = prepare(EmbeddedSettings(), folder / "study", workers=WORKERS)
    clock, processor = time.perf_counter() - began, processor_seconds() - used
    seconds = corpus.utterances["length"].sum() / SAMPLE_RATE
    size = sum(path.stat().st_size for path in corpus.folder.rglob("*") if path.is_file())
    return markdown(
        [
            ("what", "value"),
            ("utterances", f"{len(corpus.utterances):,}"),
            ("speech", f"{seconds / 3600:.2f} h"),
            ("bytes on disk", f"{size:,}"),
            (f"seconds on the clock, {WORKERS} processes", f"{clock:.0f}"),
            ("processor seconds", f"{processor:.0f}"),
            ("speech made per processor second", f"{seconds / processor:.0f} s"),
        ]
    )


def effects() -> str:
    """Seconds of speech a processor second of session effects goes through."""
    waveform = np.random.default_rng(0).normal(0, 0.05, 5 * SAMPLE_RATE)
    table = [("preset", "times real time")]
    for name, preset in PRESETS.items():
        rng = np.random.default_rng(1)
        sessions = [draw_session(preset, rng) for _ in range(100)]
        began = time.process_time()
        for session in sessions:
            apply_session(waveform, session, rng)
        table.append((name, f"{500 / (time.process_time() - began):,.0f}"))
    return markdown(table)


def difficulty(folder: Path) -> str:
    """EER of closed-form baselines on ten 4-s crops, 200 training and 40 test speakers."""
    # Here, because helper processes import this file and need no torch.
    import torch

    from studylib.evaluation.baselines import mean_and_deviation, whitening
    from studylib.statistics.error_rates import equal_error_rate

    torch.set_num_threads(1)
    rows = [("preset", "trials", "cosine", "whitened, cosine")]
    for preset in ("clean", *PRESETS):
        corpus = prepare(
            PRESET_SIZE.model_copy(update={"preset": preset}),
            folder / f"preset_{preset}",
            workers=WORKERS,
        )
        table = corpus.utterances
        training = np.flatnonzero(table["split"] == "train")
        test = np.flatnonzero(table["split"] == "test")
        vectors = mean_and_deviation(corpus, training, 1, 4.0)[:, 0]
        tested = mean_and_deviation(corpus, test, 10, 4.0) - vectors.mean(axis=0)
        speakers = np.unique(table["speaker"][training], return_inverse=True)[1]
        for name in ("test", "test_same_sex"):
            trials = corpus.trials(name)
            sides = [trials[side].to_numpy() - test[0] for side in ("first", "second")]
            rates = []
            for embeddings in (tested, tested @ whitening(vectors, speakers)):
                unit = embeddings / np.linalg.norm(embeddings, axis=2, keepdims=True)
                mean = unit.mean(axis=1)  # the mean of all crops' cosines is a product of means
                scores = (mean[sides[0]] * mean[sides[1]]).sum(axis=1)
                rates.append(100 * equal_error_rate(scores, trials["target"].to_numpy()))
            which = "all" if name == "test" else "same sex"
            rows.append((preset, which, *(f"{rate:.1f} %" for rate in rates)))
    return markdown(rows)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        text = [
            "# The corpus, measured",
            "",
            f"{processor()}, {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f} at the "
            f"start), Python {platform.python_version()}.",
            "",
            "## Making 350 x 12 + 50 x 10 + 50 x 10 utterances (preset mid)",
            "",
            build(folder),
            "",
            "## Session effects, by processor seconds",
            "",
            effects(),
            "",
            "## Difficulty: EER of mean + standard deviation of log-mel",
            "",
            "200 speakers x 12 utterances to train, 40 x 10 to test, ten 4-s crops, one seed.",
            "",
            difficulty(folder),
            "",
        ]
    Path(__file__).with_suffix(".md").write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
