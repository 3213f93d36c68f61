"""The grid runs the experiments that DVC calls stale side by side, and leaves DVC nothing to do."""

import copy
import sys
import types

import dask
import psutil
import pytest
from tiny_project import PARAMS, copy_project, kernel_in_training, stale, start, waits

from studylib.errors import StudyError
from studylib.files.atomic import read_json
from studylib.pipeline import grid
from studylib.pipeline.grid import local_layout, run_grid, slurm_cluster

STUDY = copy.deepcopy(PARAMS)
STUDY["train"]["crops"] = 1_000_000  # for minutes, within which something is killed
STUDY["runs"]["untrained"] = {"loss": {"name": "softmax"}, "train": {"crops": 0}}
STUDY["study"] |= {"runs": ["untrained", "triplet"], "baselines": []}


def test_workers_share_the_cores_and_there_is_a_worker_for_each_gpu(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")  # as many cores
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert local_layout(None) == (8, 1, [])
    assert local_layout(2) == (2, 4, [])
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert local_layout(None) == (2, 4, ["0", "1"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert local_layout(4) == (4, 2, ["2", "3"])


def test_what_slurm_lacks_or_its_library_refuses_is_one_sentence(tmp_path, monkeypatch):
    class SLURMCluster:
        def __init__(self, queue, cores, processes, memory):
            self.queue = queue

        def adapt(self, minimum_jobs, maximum_jobs):
            self.jobs = (minimum_jobs, maximum_jobs)

    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(StudyError, match=r"needs dask-jobqueue: install studylib\[slurm\]"):
        slurm_cluster({"queue": "gpu"}, 8)
    module = types.SimpleNamespace(SLURMCluster=SLURMCluster)
    monkeypatch.setitem(sys.modules, "dask_jobqueue", module)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StudyError, match="and the program sbatch"):
        slurm_cluster({"queue": "gpu"}, 8)
    (tmp_path / "sbatch").touch(0o755)
    with pytest.raises(StudyError, match=r"--slurm: .*'quueue'"):
        slurm_cluster({"quueue": "gpu"}, 8)
    assert slurm_cluster({"queue": "gpu"}, 8).jobs == (8, 8)


def test_a_scheduler_that_cannot_be_reached_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(grid, "dvc", lambda *words: '{"experiment@triplet-0": []}')
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.1s"}),
        pytest.raises(StudyError, match=r"the dask scheduler is lost \(.*the rest"),
    ):
        run_grid(tmp_path, scheduler="tcp://127.0.0.1:9")


def test_a_killed_worker_loses_nothing_and_a_signal_ends_all_and_records_what_is_done(
    tmp_path, tiny_corpus
):
    project = copy_project(tmp_path, STUDY, tiny_corpus.folder)
    process = start(project, "studylib", "grid", "--workers", "2")
    assert any("1 of 2: experiment@untrained-0" in line for line in process.stdout)
    kernel = kernel_in_training(project, process)
    kernel.parent().kill()
    log = project / ".grid" / "experiment@triplet-0.log"
    waits(lambda: "going on from step" in log.read_text(), process)
    assert not kernel.is_running()
    below = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    out, err = process.communicate()
    assert process.returncode != 0
    assert "recorded: 1; now: dvc repro" in out, err
    assert not psutil.wait_procs(below, timeout=120)[1]
    assert stale(project) == {"experiment@triplet-0"}


def test_a_killed_grid_leaves_a_worker_of_another_cluster_idle(tmp_path, tiny_corpus):
    study = copy.deepcopy(STUDY)
    study["study"]["runs"] = ["triplet"]
    project = copy_project(tmp_path, study, tiny_corpus.folder)
    file = project / "scheduler.json"
    words = ["--scheduler-file", str(file), "--no-dashboard"]
    scheduler = start(project, "distributed.cli.dask_scheduler", *words, "--port", "0")
    worker = start(project, "distributed.cli.dask_worker", *words, "--nthreads", "1")
    try:
        address = waits(file.exists, scheduler) and read_json(file)["address"]
        process = start(project, "studylib", "grid", "--scheduler", address)
        waits(lambda: list(project.glob(".checkpoints/*/step-*.pt")), process)
        kernel = kernel_in_training(project, worker)
        process.kill()
        process.communicate()
        assert not psutil.wait_procs([kernel], timeout=60)[1]
        assert worker.poll() is None
    finally:
        for started in (worker, scheduler):
            started.terminate()
            started.communicate()
