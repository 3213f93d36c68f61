"""The grid runs the experiments that DVC calls stale side by side, and leaves DVC nothing to do."""

import copy
import subprocess
import time
from collections.abc import Callable

import dask
import distributed
import psutil
import pytest
from tiny_project import PARAMS, append, copy_project, stale, start

from studylib.errors import StudyError
from studylib.pipeline import grid
from studylib.pipeline.grid import local_shares, run_grid

STUDY = copy.deepcopy(PARAMS)
STUDY["train"]["crops"] = 1_000_000  # for minutes, within which something is killed
STUDY["runs"]["untrained"] = {"loss": {"name": "softmax"}, "train": {"crops": 0}}
STUDY["study"] |= {"runs": ["untrained", "triplet"], "baselines": []}


def test_workers_share_the_cores_and_there_is_a_worker_for_each_gpu(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")  # as many cores
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert local_shares(None) == [{"OMP_NUM_THREADS": "1"}] * 8
    assert local_shares(2) == [{"OMP_NUM_THREADS": "4"}] * 2
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    own = [{"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": gpu} for gpu in "01"]
    assert local_shares(None) == own
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert [each["CUDA_VISIBLE_DEVICES"] for each in local_shares(4)] == ["2", "3", "2", "3"]


def test_a_scheduler_that_cannot_be_reached_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(grid, "dvc", lambda *words: '{"experiment@triplet-0": []}')
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.1s"}),
        pytest.raises(StudyError, match=r"the dask scheduler is lost \(.*the rest"),
    ):
        run_grid(tmp_path, scheduler="tcp://127.0.0.1:9")


def test_a_worker_ends_what_it_runs_once_its_client_is_lost(tmp_path):
    def task(client: str) -> None:
        def sleeps(*_) -> None:
            sleeping = subprocess.Popen(["sleep", "600"])
            (tmp_path / "pid").write_text(f"{sleeping.pid} ")
            sleeping.wait()

        grid.run_experiment = sleeps
        grid.run_task("experiment@triplet-0", tmp_path, [], client)

    with distributed.LocalCluster(1, threads_per_worker=1, dashboard_address=None) as cluster:
        client = distributed.Client(cluster)
        running = client.submit(task, client.id)
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert running.status == "pending"
            time.sleep(0.05)
        sleeping = psutil.Process(int((tmp_path / "pid").read_text()))
        client.close()
        assert not psutil.wait_procs([sleeping], timeout=60)[1]


def test_a_killed_worker_loses_nothing_and_a_signal_ends_all(tmp_path, tiny_corpus):
    project = copy_project(tmp_path, STUDY, tiny_corpus.folder)
    process = start(project, "studylib", "grid", "--workers", "2")
    assert any("1 of 2: experiment@untrained-0" in line for line in process.stdout)
    waits(lambda: list(project.glob(".checkpoints/triplet-0-*/step-*.pt")), process)
    below = psutil.Process(process.pid).children(recursive=True)
    (kernel,) = [each for each in below if "ipykernel_launcher" in " ".join(each.cmdline())]
    append(project / "studylib" / "losses" / "contrastive.py")
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


def waits(sign: Callable[[], object], process: subprocess.Popen) -> None:
    """Until `sign()` is true; the process does not end before."""
    until = time.monotonic() + 300
    while not sign():
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
