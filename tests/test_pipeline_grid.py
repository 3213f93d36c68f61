"""The grid runs what DVC calls stale, beside one another, and leaves DVC nothing to do."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import TINY
from dvc.repo import Repo, lock_repo
from studylib.pipeline.stages import CROPS_OF_A_START, Task, stale_tasks
from studylib.pipeline.tasks import check_project

from studylib.errors import StudyError
from studylib.pipeline.clusters import local_layout, slurm_cluster
from studylib.pipeline.grid import Progress, run_grid
from studylib.pipeline.params import read_params, run_settings

ROOT = Path(__file__).parent.parent


def start(project: Path, *command: str, **options) -> subprocess.Popen:
    """Start one of the environment's programs in the project."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(
        [sys.executable, "-m", *command], cwd=project, env=environment, **pipes, **options
    )


def waits(sign, seconds: float = 600.0):
    """The first value of `sign()` that is true."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := sign():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def heeds_ctrl_c() -> None:
    """What a script starts in the background, as these tests may be, ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def initialise(project: Path) -> None:
    """`dvc init --no-scm`, without starting another program."""
    (project / ".dvc").mkdir()
    (project / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n")


COPIES = {
    "first": {"cmd": "cp params.yaml first.txt", "deps": ["params.yaml"], "outs": ["first.txt"]},
    "train": {
        "matrix": {"run": ["good", "bad"]},
        "cmd": "run=${item.run}; ${command}",
        "deps": ["first.txt", "source.txt"],
        "outs": ["${item.run}.txt"],
    },
    "evaluate": {
        "matrix": {"run": ["good", "bad"]},
        "cmd": "cp ${item.run}.txt ${item.run}.csv",
        "deps": ["${item.run}.txt"],
        "outs": ["${item.run}.csv"],
    },
    "report": {
        "cmd": "cat good.csv bad.csv > report.txt",
        "deps": ["good.csv", "bad.csv"],
        "outs": ["report.txt"],
    },
}


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """A pipeline of the same form whose commands cost nothing: they copy a file."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": COPIES}))
    (tmp_path / "params.yaml").write_text("command: cp first.txt $run.txt\n")
    (tmp_path / "source.txt").write_text("as it was\n")
    initialise(tmp_path)
    return tmp_path


def stale(project: Path) -> set[str]:
    """What DVC calls stale of the stages of the runs."""
    with Repo(str(project)) as repo, lock_repo(repo):
        return {stage.name for stage in repo.index.stages if "@" in stage.name and stage.changed()}


def test_a_task_that_fails_leaves_the_others_to_go_on_and_to_be_committed(copies):
    (copies / "params.yaml").write_text("command: test $run = good && cp first.txt $run.txt\n")
    lines: list[str] = []
    failures = run_grid(copies, workers=2, threads=1, retries=1, report=lines.append)
    failed = "train@bad failed with exit status 1, see .grid/train@bad.log"
    assert failures == [failed, f"evaluate@bad was not run: {failed}"]
    assert (copies / ".grid" / "train@bad.log").read_text().count("# ") == 2  # it was tried again
    assert "2 done, 0 running, 0 waiting, 2 failed" in lines[-2]
    assert stale(copies) == {"train@bad", "evaluate@bad"}


def test_what_the_run_cache_holds_is_put_in_place_and_not_run_again(copies):
    assert run_grid(copies, workers=1, threads=1, report=list) == []
    assert stale(copies) == set()
    (copies / "good.txt").unlink()
    lines: list[str] = []
    assert run_grid(copies, workers=1, threads=1, report=lines.append) == []
    assert lines == ["committed: 1; now: dvc repro"]
    assert (copies / "good.txt").exists()


def test_a_result_whose_source_changed_meanwhile_is_not_committed(copies):
    text = "command: echo edited >> source.txt; cp first.txt $run.txt\n"
    (copies / "params.yaml").write_text(text)
    failures = run_grid(copies, workers=1, threads=1, retries=0, report=list)
    assert len(failures) == 2
    assert "train@bad is not committed, as source.txt changed while it ran" in failures[1]
    assert stale(copies) >= {"train@good", "train@bad"}


def test_a_worker_that_sees_other_parameters_is_refused(copies):
    with pytest.raises(StudyError, match=r"params\.yaml is missing or is not what it was"):
        check_project(str(copies), "of other bytes")


def test_slurm_without_its_library_is_one_sentence(copies):
    if importlib.util.find_spec("dask_jobqueue"):
        pytest.skip("dask-jobqueue is installed")
    with pytest.raises(StudyError, match=r"needs dask-jobqueue: install studylib\[slurm\]"):
        run_grid(copies, workers=1, slurm={"queue": "gpu"}, report=list)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A dask-jobqueue and an sbatch that take any job but those for the partition `none`."""
    asked = []

    class SLURMCluster:
        def __init__(self, queue, cores, processes, job_cpu, memory, walltime="00:30:00"):
            asked.append(walltime)
            self.queue = queue

        def job_script(self):
            return f"#!/bin/sh\n#SBATCH -p {self.queue}\n"

        def adapt(self, minimum_jobs, maximum_jobs):
            asked.append(minimum_jobs)

    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(
        '#!/bin/sh\ngrep -q "SBATCH -p none" "$2" || exit 0\necho no such partition >&2; exit 1\n'
    )
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(sbatch.parent), prepend=os.pathsep)
    monkeypatch.setitem(
        sys.modules, "dask_jobqueue", types.SimpleNamespace(SLURMCluster=SLURMCluster)
    )
    return asked


def test_what_slurm_or_its_library_refuses_is_one_sentence(slurm, monkeypatch):
    with pytest.raises(StudyError, match="SLURM refuses such jobs: no such partition"):
        slurm_cluster({"queue": "none"}, 8, 1)
    with pytest.raises(StudyError, match=r"--slurm: .*'quueue'"):
        slurm_cluster({"quueue": "gpu"}, 8, 1)
    slurm.clear()
    slurm_cluster({"queue": "gpu", "walltime": yaml.safe_load("24:30:00")}, 8, 1)
    assert slurm == ["24:30:00", 8]
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StudyError, match="needs sbatch, which this machine does not have"):
        slurm_cluster({"queue": "gpu"}, 8, 1)


def test_workers_and_threads_share_the_cores_and_there_is_a_worker_for_each_gpu(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")  # as many cores
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local_layout(100, None, None) == (8, 1, [])
    assert local_layout(100, 2, None) == (2, 4, [])
    assert local_layout(100, None, 4) == (2, 4, [])
    assert local_layout(3, 5, 2) == (3, 2, [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert local_layout(100, None, None) == (2, 4, ["2", "3"])


def test_the_estimate_is_the_mean_of_each_kind_over_the_workers_and_never_less_than_a_chain():
    def task(name, *after, size=1.0):
        return Task(name, "", after, {}, [], size)

    progress = Progress([task(f"train@{run}-0") for run in "abcd"])
    for run in "abcd":
        progress.tasks[f"evaluate@{run}-0"] = task(f"evaluate@{run}-0", f"train@{run}-0")
    assert progress.estimate(2, 0.0) == "no estimate yet"
    progress.seconds["train@a-0"] = 100.0
    progress.started["train@b-0"] = 30.0
    # 60 s of b, 100 s of c and of d
    assert progress.estimate(2, 70.0) == "about 2 min left without evaluate"  # 130 s
    progress.seconds |= {"evaluate@a-0": 10.0, "train@b-0": 100.0, "evaluate@b-0": 10.0}
    assert progress.estimate(1, 70.0) == "about 4 min left"  # 220 s
    assert progress.estimate(8, 70.0) == "about 110 s left"  # c, then its evaluation
    progress = Progress([task("train@a-0", size=20.0), task("train@b-0", size=60.0)])
    progress.seconds["train@a-0"] = 30.0
    assert progress.estimate(1, 0.0) == "about 90 s left"


def test_a_training_s_size_is_its_crops_and_some_for_its_start(copies):
    plans = copies / "plan" / "train"
    plans.mkdir(parents=True)
    for run, crops in (("good", 600), ("bad", 0)):
        (plans / f"{run}.json").write_text(json.dumps({"settings": {"train": {"crops": crops}}}))
    (copies / "first.txt").write_text("made by the stage before\n")
    train = COPIES["train"] | {"deps": ["first.txt", "plan/train/${item.run}.json"]}
    (copies / "dvc.yaml").write_text(yaml.safe_dump({"stages": COPIES | {"train": train}}))
    sizes = {task.name: task.size for task in stale_tasks(copies)[0]}
    assert sizes == {
        "train@good": 600 + CROPS_OF_A_START,
        "train@bad": CROPS_OF_A_START,
        "evaluate@good": 1,
        "evaluate@bad": 1,
    }


RUNS = {
    "softmax": {"loss": {"name": "softmax"}},
    "triplet": {"loss": {"name": "triplet", "margin": 0.3, "hard_fraction": 0.5}},
}
PARAMS = {
    "study": {"name": "mini", "runs": list(RUNS), "seeds": [0], "baselines": ["logmel_mean_std"]},
    "corpus": {"name": "tiny", "source": "embedded", "settings": TINY.model_dump()},
    "trunk": {"name": "compact_tdnn", "embedding_dim": 16, "channels": 8},
    "train": {
        "crops": 4800,  # some seconds, within which a worker is killed
        "crop_seconds": 0.5,
        "speakers_per_batch": 6,
        "utterances_per_speaker": 2,
        "checkpoint_seconds": 0.001,
        "device": "cpu",
    },
    "evaluate": {"trials": ["test"], "crops": 1, "crop_seconds": 1.0, "resamples": 10},
    "runs": RUNS,
}


@pytest.fixture
def project(tmp_path, tiny_corpus):
    """The real pipeline with two tiny runs, without notebooks: a kernel takes seconds to start."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copytree(ROOT / "studylib", tmp_path / "studylib")
    shutil.copytree(tiny_corpus.folder, tmp_path / "data" / "tiny")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    for name in ("train", "evaluate"):
        stage = pipeline["stages"][name]
        stage["cmd"] = f"python -m studylib {name} ${{item.run}} --seed ${{item.seed}}"
        stage["outs"] = [out for out in stage["outs"] if "notebooks" not in out]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    initialise(tmp_path)
    return tmp_path


def commands_below(process: subprocess.Popen, words: str) -> list[psutil.Process]:
    """The processes that a process started, directly or not, whose command ends like this."""
    found = []
    for each in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(each.cmdline()).endswith(words):
                found.append(each)
    return found


def test_two_workers_run_the_pipeline_and_one_that_is_killed_in_the_middle_loses_nothing(
    project, tiny_corpus, monkeypatch
):
    from studylib.training.loop import train

    grid = start(project, "studylib", "grid", "--workers", "2", "--threads", "1")
    training = "python -m studylib train softmax --seed 0"
    waits(lambda: list(project.glob(".checkpoints/softmax-0-*/checkpoint.pt")))
    victims = commands_below(grid, training)
    keeper = next(process for process in victims if "studylib.pipeline.tasks" in process.cmdline())
    keeper.parent().kill()  # the worker: what it started must end without its help
    assert not psutil.wait_procs(victims, timeout=120)[1]
    text, _ = grid.communicate()
    assert grid.returncode == 0, text
    assert "5 done, 0 running, 0 waiting" in text
    log = (project / ".grid" / "train@softmax-0.log").read_text()
    assert log.count("# ") == 2
    assert "going on from step" in log
    assert stale(project) == set()

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in the grid
    settings = run_settings(read_params(project / "params.yaml"), "softmax")
    undisturbed = project / "undisturbed"
    train(settings, tiny_corpus, 0, undisturbed, checkpoints=project / "none", report=list)
    model = (undisturbed / "model.safetensors").read_bytes()
    assert model == (project / "results/mini/train/softmax-0/model.safetensors").read_bytes()


def test_a_command_and_all_that_it_started_end_with_their_standard_input(tmp_path):
    command = "for i in $(seq 40); do setsid sh -c 'sleep 600; true' & done; wait"
    keeper = start(tmp_path, "studylib.pipeline.tasks", command, stdin=subprocess.PIPE)
    waits(lambda: len(commands_below(keeper, "sleep 600")) == 40)
    below = psutil.Process(keeper.pid).children(recursive=True)
    keeper.stdin.close()
    assert keeper.wait(timeout=120) == 256 - signal.SIGKILL
    assert not psutil.wait_procs(below, timeout=120)[1]


def test_ctrl_c_ends_what_runs_and_commits_what_is_done(copies):
    text = "command: test $run = good || sleep 600; cp first.txt $run.txt\n"
    (copies / "params.yaml").write_text(text)
    words = ["--workers", "2", "--threads", "1"]
    options = {"start_new_session": True, "preexec_fn": heeds_ctrl_c}
    grid = start(copies, "studylib", "grid", *words, **options)
    said = iter(grid.stdout.readline, "")
    assert any("evaluate@good took" in line for line in said)
    sleeping = waits(lambda: commands_below(grid, "sleep 600"))
    os.killpg(grid.pid, signal.SIGINT)
    grid.communicate(timeout=120)
    assert grid.returncode != 0
    assert not psutil.wait_procs(sleeping, timeout=120)[1]
    assert stale(copies) == {"train@bad", "evaluate@bad"}
