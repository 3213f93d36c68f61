"""How long does the bootstrap take for a list the size of VoxCeleb1-E: one measure against four?

Run `OMP_NUM_THREADS=1 python -m benchmarks.bootstrap` in the project's folder; it writes
benchmarks/bootstrap.md.
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from benchmarks.measuring import markdown, processor
from studylib.statistics import bootstrap

N_TRIALS, N_TARGETS, N_SPEAKERS = 579_818, 289_921, 1_251
MEASURES = ("eer", "min_dcf_0.01", "min_dcf_0.05", "cllr")


def simulated(n_systems: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Scores of each system, targets and both speakers; EER near 3 %, systems alike by half."""
    generator = np.random.default_rng(0)
    first = generator.integers(0, N_SPEAKERS, N_TRIALS)
    second = first.copy()
    others = slice(N_TARGETS, N_TRIALS)
    moved = generator.integers(1, N_SPEAKERS, N_TRIALS - N_TARGETS)
    second[others] = (first[others] + moved) % N_SPEAKERS
    targets = first == second

    def effects(n: int) -> np.ndarray:
        return generator.normal(size=(n_systems + 1, n))

    speakers, trials = 0.4 * effects(N_SPEAKERS), 0.9 * effects(N_TRIALS)
    systems = {}
    for k in range(1, n_systems + 1):
        of_speakers, of_trials = (part[0] + part[k] for part in (speakers, trials))
        noise = (of_speakers[first] + of_speakers[second] + of_trials) / np.sqrt(2)
        systems[f"system {k}"] = 4.4 * targets - 2.2 + noise
    return systems, targets, first, second


def megabytes() -> float:
    """The most memory that the process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", type=int, default=10)
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    trials = simulated(options.systems)
    bootstrap(*trials, n_resamples=16)  # loads what is loaded late
    rows, first_time = [["measures", "seconds", "times the first", "peak memory, MB"]], None
    for measures in (("eer",), ("cllr",), MEASURES):
        started, cpu = time.perf_counter(), time.process_time()
        bootstrap(*trials, measures=measures, n_resamples=options.resamples)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        first_time = first_time or cpu
        rows.append([", ".join(measures), f"{seconds:.1f} ({cpu:.1f} of processor)"])
        rows[-1] += [f"{cpu / first_time:.2f}", f"{megabytes():,.0f}"]
        print(rows[-1], flush=True)
    Path(__file__).with_suffix(".md").write_text(f"""# Time and memory of the bootstrap

Made by `python -m benchmarks.bootstrap` on {processor()}, one thread, other work beside it,
numpy {np.__version__}.

{options.systems} systems, {N_TRIALS:,} trials of {N_SPEAKERS:,} speakers (the size of
VoxCeleb1-E), {options.resamples:,} resamples of the speakers and as many perturbations of their
pairs. Ratios are of processor time. The peak is the process's, scores (4.6 MB a system) and
libraries included, after that line and those above it.

{markdown(rows)}
""")


if __name__ == "__main__":
    main()
