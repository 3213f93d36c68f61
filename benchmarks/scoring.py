"""How long do scoring, metrics and the bootstrap take for a list the size of VoxCeleb1-O?

Run `OMP_NUM_THREADS=1 python -m benchmarks.scoring` in the project's folder; it writes
benchmarks/scoring.md.
"""

import os
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.measuring import markdown, processor
from studylib.evaluation.scores import trial_scores
from studylib.statistics import bootstrap, paired_tests
from studylib.statistics.error_rates import minimum_log_likelihood_ratio_cost, summary
from studylib.statistics.intervals import cells_of

N_SPEAKERS, N_UTTERANCES, N_CROPS, DIMENSION = 40, 4708, 10, 512
N_TRIALS, N_RESAMPLES, N_SYSTEMS = 37_720, 1000, 10
REPEATS = 5


def simulated(generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings (U, crops, D) float32, each utterance's speaker, and both sides of the trials."""
    speakers = np.sort(generator.integers(0, N_SPEAKERS, N_UTTERANCES))
    shape = (N_UTTERANCES, N_CROPS, DIMENSION)
    embeddings = generator.standard_normal(shape, dtype=np.float32)
    embeddings += generator.standard_normal((N_UTTERANCES, 1, DIMENSION), dtype=np.float32)
    embeddings += generator.standard_normal((N_SPEAKERS, 1, DIMENSION), dtype=np.float32)[speakers]
    first = generator.integers(0, N_UTTERANCES, N_TRIALS)
    second = generator.integers(0, N_UTTERANCES, N_TRIALS)
    order = np.argsort(speakers, kind="stable")
    starts = np.searchsorted(speakers, np.arange(N_SPEAKERS + 1))
    for trial in range(0, N_TRIALS, 2):  # every second trial becomes a target
        speaker = speakers[first[trial]]
        second[trial] = order[generator.integers(starts[speaker], starts[speaker + 1])]
    return embeddings, speakers, first, second


def loop_of_products(embeddings, first, second) -> list[float]:
    """The plain loop at its best: one matrix product a trial gives its 100 cosines."""
    scores = []
    for i, j in zip(first, second, strict=True):
        a, b = embeddings[i], embeddings[j]
        a = a / np.linalg.norm(a, axis=1, keepdims=True)
        b = b / np.linalg.norm(b, axis=1, keepdims=True)
        scores.append(float((a @ b.T).mean()))
    return scores


def loop_of_broadcasts(embeddings, first, second) -> list[float]:
    """The common loop: each trial lays its 10 x 10 pairs of crops beside one another."""
    scores = []
    for i, j in zip(first, second, strict=True):
        pairs = np.broadcast_arrays(embeddings[i][:, None], embeddings[j][None])
        a, b = torch.from_numpy(np.stack(pairs))
        scores.append(F.cosine_similarity(a, b, dim=2).mean().item())
    return scores


def loop_of_cosines(embeddings, first, second) -> list[float]:
    """The plainest loop: 100 cosines a trial, one by one."""
    return [
        float(np.mean([cosine(a, b) for a in embeddings[i] for b in embeddings[j]]))
        for i, j in zip(first, second, strict=True)
    ]


def cosine(a, b) -> float:
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def seconds(job: Callable[[], object]) -> float:
    """Processor time of the fastest of a few runs, the first of which loads what is loaded late."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        job()
        times.append(time.process_time() - start)
    return min(times)


def seconds_of_loop(loop, n_trials: int, embeddings, first, second, scores) -> float:
    """Time of a loop over all trials, from its first `n_trials`; their scores are compared."""
    looped = loop(embeddings, first[:n_trials], second[:n_trials])
    assert np.allclose(scores[:n_trials], looped, atol=1e-5)
    some = embeddings, first[:n_trials], second[:n_trials]
    return seconds(lambda: loop(*some)) * N_TRIALS / n_trials


def main() -> str:
    generator = np.random.default_rng(0)
    embeddings, speakers, first, second = simulated(generator)
    targets, sides = speakers[first] == speakers[second], (speakers[first], speakers[second])
    trials = embeddings, first, second
    scores = trial_scores(*trials, scoring="cosine")
    took = {
        name: seconds(lambda name=name: trial_scores(*trials, scoring=name))
        for name in ("cosine", "euclidean")
    }
    rows = [["scores of all trials", "seconds", "times our time"]]
    rows += [[f"mean {name}, factorised (ours)", f"{time:.3f}", ""] for name, time in took.items()]
    for what, loop, n_trials in (
        ("loop, one 10 x 10 matrix product a trial", loop_of_products, 2000),
        ("loop, 10 x 10 x 512 numbers of both sides a trial", loop_of_broadcasts, 500),
        ("loop, 100 cosines a trial one by one", loop_of_cosines, 100),
    ):
        time_of_loop = seconds_of_loop(loop, n_trials, *trials, scores)
        rows.append([what, f"{time_of_loop:.1f}", f"{time_of_loop / took['cosine']:.0f}"])

    systems = {
        f"system {k}": scores + 0.7 * scores.std() * generator.normal(size=N_TRIALS)
        for k in range(N_SYSTEMS)
    }

    def of_all(*measures: str):
        return bootstrap(systems, targets, *sides, measures=measures, n_resamples=N_RESAMPLES)

    cells = cells_of(of_all("eer")["eer"], {name: [name] for name in systems})
    jobs = {
        "EER, its threshold, AUC, 2 minDCFs of one system": lambda: summary(scores, targets),
        "minCllr of one system": lambda: minimum_log_likelihood_ratio_cost(scores, targets),
    }
    for measures in (("eer",), ("eer", "min_dcf_0.01", "min_dcf_0.05", "cllr")):
        what = f"paired bootstrap of {N_SYSTEMS} systems, {', '.join(measures)}"
        jobs[what] = lambda m=measures: of_all(*m)
    jobs["45 paired tests with Holm's correction"] = lambda: paired_tests(
        cells, combinations(systems, 2)
    )
    then = [["then", "seconds"], *([what, f"{seconds(job):.3f}"] for what, job in jobs.items())]
    return f"""# Time of scoring, metrics and bootstrap

Made by `python -m benchmarks.scoring` on {processor()}, {len(os.sched_getaffinity(0))} cores
shared with other work, one thread, numpy {np.__version__}; seconds of processor time, the fastest
of {REPEATS} runs.

{N_TRIALS:,} trials over {N_UTTERANCES:,} utterances x {N_CROPS} crops x {DIMENSION} dimensions,
{N_SPEAKERS} speakers. The loops are timed on their first trials and scaled.

{markdown(rows)}

{N_RESAMPLES:,} resamples of the speakers, and as many perturbations of their pairs:

{markdown(then)}
"""


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(main())
