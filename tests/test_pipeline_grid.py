"""The grid runs the experiments that DVC calls stale side by side, and leaves DVC nothing to do."""

import copy
import json
import os
import shutil
import signal
import sys
import time
import types

import psutil
import pytest
import yaml
from studylib.pipeline.clusters import local_layout, slurm_cluster
from tiny_project import PARAMS, copy_project, finish, run, start, write_params

from studylib.errors import StudyError

STUDY = copy.deepcopy(PARAMS)
STUDY["train"]["crops"] = 6000  # some seconds, within which something is killed
STUDY["runs"]["untrained"] = {"loss": {"name": "softmax"}, "train": {"crops": 0}}
STUDY["study"]["runs"] = ["untrained", "softmax"]


def test_workers_and_threads_share_the_cores_and_there_is_a_worker_for_each_gpu(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")  # as many cores
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local_layout(100, None, None) == (8, 1, [])
    assert local_layout(100, 2, None) == (2, 4, [])
    assert local_layout(100, None, 4) == (2, 4, [])
    assert local_layout(3, 5, 2) == (3, 2, [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert local_layout(100, None, None) == (2, 4, ["2", "3"])


def test_what_slurm_lacks_or_its_library_refuses_is_one_sentence(tmp_path, monkeypatch):
    class SLURMCluster:
        def __init__(self, queue, cores, processes, job_cpu, memory):
            self.queue = queue

        def adapt(self, minimum_jobs, maximum_jobs):
            self.jobs = (minimum_jobs, maximum_jobs)

    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(StudyError, match=r"needs dask-jobqueue: install studylib\[slurm\]"):
        slurm_cluster({"queue": "gpu"}, 8, 1)
    module = types.SimpleNamespace(SLURMCluster=SLURMCluster)
    monkeypatch.setitem(sys.modules, "dask_jobqueue", module)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StudyError, match="needs sbatch, which this machine does not have"):
        slurm_cluster({"queue": "gpu"}, 8, 1)
    (tmp_path / "sbatch").touch(0o755)
    with pytest.raises(StudyError, match=r"--slurm: .*'quueue'"):
        slurm_cluster({"quueue": "gpu"}, 8, 1)
    assert slurm_cluster({"queue": "gpu"}, 8, 1).jobs == (8, 8)


@pytest.fixture
def project(tmp_path, tiny_corpus):
    copy_project(tmp_path, STUDY)
    shutil.copytree(tiny_corpus.folder, tmp_path / "data" / "tiny")
    return tmp_path


def waits(sign, process):
    """The first value of `sign()` that is true; the process has not ended before."""
    until = time.monotonic() + 300
    while not (value := sign()):
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return value


def kernels(process) -> list[psutil.Process]:
    """The kernels below a process that have a checkpoint, hence train."""
    below = psutil.Process(process.pid).children(recursive=True)
    return [each for each in below if "ipykernel_launcher" in " ".join(each.cmdline())]


def trained_by_now(project):
    return list(project.glob(".checkpoints/softmax-0-*/step-*.pt"))


def stale(project) -> set[str]:
    return set(json.loads(run(project, "dvc", "status", "--json", "experiment")))


def heeds_ctrl_c() -> None:
    """What a script starts in the background, as these tests may be, ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_worker_that_is_killed_loses_nothing(project):
    grid = start(project, "studylib", "grid", "--workers", "2", "--threads", "1")
    waits(lambda: trained_by_now(project), grid)
    (kernel,) = waits(lambda: kernels(grid)[-1:], grid)
    kernel.parent().kill()
    done = finish(grid)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "recorded: 2; now: dvc repro" in done.stdout
    assert not kernel.is_running()
    log = (project / ".grid" / "experiment@softmax-0.log").read_text()
    assert "going on from step" in log
    assert stale(project) == set()
    model = project / "results/mini/experiment/softmax-0/model/model.safetensors"
    interrupted = model.read_bytes()
    shutil.rmtree(model.parent)
    run(project, "studylib", "train", "softmax")
    assert model.read_bytes() == interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_runs_and_records_what_is_done(project, number):
    study = copy.deepcopy(STUDY)
    study["train"]["crops"] = 1_000_000  # for minutes
    write_params(project, study)
    words = ["studylib", "grid", "--workers", "2", "--threads", "1"]
    options = {"start_new_session": True, "preexec_fn": heeds_ctrl_c}
    grid = start(project, *words, **options)
    assert any("1 of 2: experiment@untrained-0" in line for line in grid.stdout)
    waits(lambda: trained_by_now(project), grid)
    below = psutil.Process(grid.pid).children(recursive=True)
    os.killpg(grid.pid, number)
    done = finish(grid)
    assert done.returncode != 0
    assert not psutil.wait_procs(below, timeout=120)[1]
    assert stale(project) == {"experiment@softmax-0"}, done.stdout + done.stderr


def test_a_killed_grid_leaves_a_foreign_worker_idle_and_a_lost_scheduler_is_one_sentence(project):
    scheduler = start(
        project, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
        "--no-dashboard", "--scheduler-file", "scheduler.json",
    )  # fmt: skip
    waits(lambda: (project / "scheduler.json").exists(), scheduler)
    address = yaml.safe_load((project / "scheduler.json").read_text())["address"]
    worker = start(
        project, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"
    )
    words = ["studylib", "grid", "--scheduler", address]
    try:
        grid = start(project, *words)
        waits(lambda: trained_by_now(project), grid)
        (kernel,) = kernels(worker)
        grid.kill()
        assert not psutil.wait_procs([kernel], timeout=60)[1]
        grid = start(project, *words)
        waits(lambda: kernels(worker), grid)
        scheduler.kill()
        done = finish(grid)
        assert done.returncode == 2
        assert done.stderr.strip().splitlines()[-1].startswith("error: the dask scheduler is lost")
    finally:
        for process in (scheduler, worker):
            process.terminate()
            process.communicate()
