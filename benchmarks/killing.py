"""Killed at random moments and started again: do all end in the same bits, and leave nothing half?

    python -m benchmarks.killing [--times 20] [--only experiment evaluation corpus repro grid]

writes killing.md beside this file. Each case is killed with kill -9 at a moment drawn uniformly
between its start and its end when nobody disturbs it, then run to its end:

- an experiment (training, with checkpoints, and measuring), the notebook's steps in one process;
- an evaluation of a trained model, which replaces results of other settings: they are there, whole,
  until the new ones are;
- a corpus, by turns of recordings and of synthetic voices made by two processes;
- `dvc repro` and `studylib grid`: DVC's or the grid's own process is killed, and what it started
  must end.

A process belongs to a case if it has the case's name in its environment.
"""

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import soundfile
import yaml

from benchmarks.measuring import markdown, processor, write_sections
from studylib.corpora import decoding
from studylib.corpora.folder import FolderSettings
from studylib.corpora.preparation import prepare as prepare_folder
from studylib.corpora.synthetic.embedded import prepare as prepare_embedded
from studylib.evaluation import run as _evaluation  # noqa: F401, loaded before processes are forked
from studylib.files.atomic import read_json
from studylib.files.checksums import changed_files
from studylib.pipeline.experiment import measure_experiment, open_experiment, train_experiment
from studylib.pipeline.params import read_params
from studylib.pipeline.plan import write_plan
from studylib.training import loop as _training  # noqa: F401

OUT = Path(__file__).with_suffix(".md")
HEAD = "# Killed and started again\n\nWritten by `python -m benchmarks.killing`. On: {}."
ROOT = Path(__file__).parent.parent
MARK = "STUDYLIB_KILLING"  # in the environment of all that a case starts
LONGEST = 60.0  # s until what a killed process has started must have ended
SPEAKERS = dict(n_train_speakers=8, n_dev_speakers=3, n_test_speakers=3)
VOICES = SPEAKERS | dict(train_utterances=2, dev_utterances=2, test_utterances=2, seconds=2.0)
EXPERIMENT = "results/mini/experiment/triplet-0"
PARAMS = {
    "study": {"name": "mini", "runs": ["triplet"], "seeds": [0], "baselines": []},
    "corpus": {"name": "tiny", "source": "embedded", "settings": VOICES},
    "trunk": {"name": "compact_tdnn", "embedding_dim": 16, "channels": 16},
    "train": {
        "crops": 960,
        "crop_seconds": 1.0,
        "speakers_per_batch": 8,
        "utterances_per_speaker": 2,
        "checkpoint_seconds": 0.1,
        "measurements": 2,
        "keep": "best",
        "augmentation": {"room_chance": 0.5},
        "device": "cpu",
        "threads": 1,
    },
    "evaluate": {"trials": ["test", "dev"], "crops": 3, "crop_seconds": 1.0, "resamples": 200},
    "runs": {
        "triplet": {
            "loss": {
                "name": "triplet",
                "margin": 0.3,
                "hard_fraction": {"initial": 1.0, "final": 0.1, "begins": 0.2, "shape": "step"},
            }
        }
    },
}


def make_project(folder: Path) -> Path:
    """The package, the notebooks and the pipeline, with a tiny study, its plan and its corpus."""
    for name in ("studylib", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    prepare_embedded(VOICES, folder / "data" / "tiny", workers=1, progress=False)
    write_plan(folder, read_params(folder / "params.yaml"))
    rng = np.random.default_rng(0)
    for number in range(48):  # recordings: 8 speakers with 6 each
        path = folder / "recordings" / f"s{number // 6}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.1, 48_000), 16_000)
    return folder


# ------------------------------------------------------------------------------------- the cases


def experiment(project: Path, number: int) -> None:
    os.chdir(project)
    opened = open_experiment("triplet", 0, out=EXPERIMENT)
    train_experiment(opened)
    measure_experiment(opened)


def evaluation(project: Path, number: int) -> None:
    os.chdir(project)
    measure_experiment(open_experiment("triplet", 0, out=EXPERIMENT))


def corpus(project: Path, number: int) -> None:
    if number % 2:
        prepare_embedded(VOICES, project / "data" / "made", workers=2, progress=False)
        return
    decoding.PART = 4
    settings = FolderSettings(
        root=project / "recordings", splits={"test": 2}, session_effects="mid",
        trials={"test": {"recipe": "all_pairs", "split": "test"}},
    )  # fmt: skip
    prepare_folder(settings, project / "data" / "made")


def forked(case: Callable[[Path, int], None]) -> Callable[[Path, int], multiprocessing.Process]:
    """Start a case in a process that has loaded all already, so that kills fall into the work."""

    def start(project: Path, number: int) -> multiprocessing.Process:
        process = multiprocessing.get_context("fork").Process(
            target=quietly, args=(case, project, number)
        )
        process.start()
        return process

    return start


def quietly(case: Callable[[Path, int], None], project: Path, number: int) -> None:
    with contextlib.redirect_stdout(None):
        case(project, number)


def command(*words: str) -> Callable[[Path, int], subprocess.Popen]:
    """Start a program of the project."""

    def start(project: Path, number: int) -> subprocess.Popen:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        own = {"PYTHONPATH": str(project), "CUDA_VISIBLE_DEVICES": "", "PATH": path}
        with (project / "output.txt").open("a") as log:
            streams = {"stdout": log, "stderr": log}
            environment = os.environ | own
            words_ = [sys.executable, "-m", *words]
            return subprocess.Popen(words_, cwd=project, env=environment, **streams)

    return start


CASES = {
    "experiment": (forked(experiment), "results"),
    "evaluation": (forked(evaluation), "results"),
    "corpus": (forked(corpus), "data"),
    "repro": (command("dvc", "repro", "experiment"), "results"),
    "grid": (command("studylib", "grid", "--workers", "1"), "results"),
}


# ------------------------------------------------------------------------------------ judging


def is_running(process: multiprocessing.Process | subprocess.Popen) -> bool:
    return (process.is_alive if hasattr(process, "is_alive") else lambda: process.poll() is None)()


def wait(process: multiprocessing.Process | subprocess.Popen) -> None:
    process.join() if hasattr(process, "join") else process.wait()


def left_running() -> list[str]:
    """The command lines of this case's processes that do not end by themselves soon."""
    until = time.monotonic() + LONGEST
    while (left := running()) and time.monotonic() < until:
        time.sleep(0.2)
    return left


def running() -> list[str]:
    """The command lines of this case's processes, but for this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            ours = process.environ().get(MARK) == os.environ[MARK] and process.pid != os.getpid()
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found


def content(project: Path, part: str) -> dict[str, str]:
    """File -> hash of what a case makes, without facts of the clock and executed notebooks."""
    files = [path for path in sorted((project / part).rglob("*")) if path.is_file()]
    names = {path.relative_to(project).as_posix(): path for path in files}
    clock = ("results/mini/timing/", "results/mini/notebooks/")
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not name.startswith(clock)
    }


def is_whole(project: Path, case: str) -> bool:
    """Whether what is under the final names after a kill is whole."""
    folder = project / EXPERIMENT
    if case == "evaluation" and not (folder / "manifest.json").exists():
        return False  # the old results, at the least, are there
    if (folder / "manifest.json").exists():
        files = read_json(folder / "manifest.json")["files"]
        return all((folder / name).exists() for name in files) and not changed_files(folder, files)
    return True


def killed(
    case: str, template: Path, times: int, rng: np.random.Generator, scratch: Path
) -> tuple[list[int], float]:
    """How often it was killed, whole after the kill, alone afterwards and the same at the end."""
    start, part = CASES[case]
    expected, seconds = {}, {}
    for number in range(2 if case == "corpus" else 1):
        project = Path(shutil.copytree(template, scratch / f"undisturbed{number}"))
        began = time.monotonic()
        wait(start(project, number))
        seconds[number], expected[number] = time.monotonic() - began, content(project, part)
    counts = np.zeros(4, dtype=int)
    for number in range(times):
        kind = number % len(expected)
        project = Path(shutil.copytree(template, scratch / "project"))
        process = start(project, number)
        time.sleep(rng.uniform(0, seconds[kind]))
        was_killed = is_running(process)
        process.kill()
        wait(process)
        left = left_running()
        whole = is_whole(project, case)
        wait(start(project, number))
        found = content(project, part)
        same = found == expected[kind] and not left_running()
        counts += [was_killed, whole, not left, same]
        print(case, f"{number + 1}: killed, whole, alone, same:", *counts, flush=True)
        if left or not whole or not same:
            differing = sorted(name for name, _ in found.items() ^ expected[kind].items())
            print("left:", left, "differing:", differing, flush=True)
        shutil.rmtree(project)
    return counts.tolist(), max(seconds.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if MARK not in os.environ:  # begin anew: a process's environment is read as it was at its start
        words = [sys.executable, "-m", "benchmarks.killing", *sys.argv[1:]]
        os.execve(sys.executable, words, os.environ | {MARK: str(os.getpid())})
    rng = np.random.default_rng(options.seed)
    sections, missed = {}, 0
    with tempfile.TemporaryDirectory() as temporary:
        template = make_project(Path(temporary) / "template")
        old = Path(shutil.copytree(template, Path(temporary) / "old"))
        wait(forked(experiment)(old, 0))  # also imports what torch imports late
        params = PARAMS | {"evaluate": PARAMS["evaluate"] | {"crops": 2}}
        (old / "params.yaml").write_text(yaml.safe_dump(params))
        write_plan(old, read_params(old / "params.yaml"))
        wait(forked(evaluation)(old, 0))
        shutil.copytree(template / "results", old / "results", dirs_exist_ok=True)
        shutil.copy(template / "params.yaml", old / "params.yaml")
        for case in options.only:
            scratch = Path(temporary) / case
            scratch.mkdir()
            source = old if case == "evaluation" else template
            counts, seconds = killed(case, source, options.times, rng, scratch)
            head = ["times", "killed", "whole after the kill", "nothing left running", "same bytes"]
            rows = [head, [str(count) for count in (options.times, *counts)]]
            sections[case] = f"{seconds:.1f} s when nobody disturbs it.\n\n{markdown(rows)}"
            missed += 3 * options.times - sum(counts[1:])
            write_sections(OUT, HEAD.format(processor()), CASES, sections)
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
