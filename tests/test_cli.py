"""A user's mistake is one sentence and exit status 2."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import Mock

import psutil
from trees import PLAIN, files_of, write_tree

from studylib.corpora.store import open_corpus

ROOT = Path(__file__).parent.parent


def assert_one_sentence(done: CompletedProcess, part: str) -> None:
    assert done.returncode == 2
    bars = ("Decoding:", "Speaking:", "recordings:")
    lines = [
        line for line in done.stderr.splitlines() if line.strip() and not line.startswith(bars)
    ]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert part in lines[0]


def test_a_full_disk_is_one_sentence_and_the_old_plan_is_kept(studylib, project, monkeypatch):
    studylib("plan")
    before = files_of(project / "results")
    (project / "params.yaml").write_text((project / "params.yaml").read_text() + "# edited\n")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=full))
    assert_one_sentence(studylib("plan"), "The disk is full, or a file too large")
    assert files_of(project / "results") == before


def test_what_is_not_there_is_one_sentence(studylib, project):
    assert_one_sentence(studylib("train", "triplet"), "embedded-default")
    wrong = studylib("baseline", "logmel_whitend")
    assert_one_sentence(wrong, "'logmel_whitend'; did you mean 'logmel_whitened'")
    wrong = studylib("experiment", "triplte")
    assert_one_sentence(wrong, "no run is named 'triplte'; did you mean 'triplet'")
    for name in ("nothing", "../notebooks/losses"):
        assert_one_sentence(studylib("notebook", name), f"{name}.ipynb does not exist")
    assert not (project / "results").exists()
    for words in (["--spectrum"], []):
        done = studylib("publish", "notebooks", "--out", "x", *words)
        assert_one_sentence(done, "notebooks has no details.json")


def test_a_study_is_checked_before_it_becomes_the_active_one(studylib, project):
    before = (project / "params.yaml").read_bytes()
    mistakes = {"name: am_softmax, margin": "name: am_softmax, magin", "preset: mid": "preset: md"}
    for right, wrong in mistakes.items():
        assert right in before.decode()
        (project / "wrong.yaml").write_text(before.decode().replace(right, wrong))
        assert_one_sentence(studylib("study", "wrong.yaml"), wrong.split()[-1])
        assert (project / "params.yaml").read_bytes() == before
    done = studylib("study", str(ROOT / "studies" / "laptop.yaml"))
    assert done.returncode == 0, done.stderr
    assert "params.yaml is now the study laptop" in done.stdout


def test_a_folder_becomes_a_corpus_without_params_and_what_is_skipped_is_listed(studylib, project):
    write_tree(project / "in", PLAIN)
    (project / "in" / "anna" / "monday" / "9.wav").write_text("no audio")
    words = ["corpus", "folder", "in", "--set", "splits={test: 2}", "--out", "out/mine"]
    assert_one_sentence(studylib(*words), "9.wav")
    done = studylib(*words, "--keep-going")
    assert done.returncode == 0, done.stderr
    assert "mine.skipped.csv" in done.stdout
    corpus = open_corpus(project / "out" / "mine")
    assert len(corpus.utterances) == len(PLAIN)
    assert corpus.utterances.query("split == 'test'")["speaker"].nunique() == 2


def test_a_source_that_does_not_exist_or_a_key_it_lacks_is_one_sentence(studylib):
    assert_one_sentence(studylib("corpus", "flder", "in"), "one of embedded, folder")
    for wrong, part in {"spilts=2": "spilts", "spilts": "spilts", "splits={": "--set"}.items():
        assert_one_sentence(studylib("corpus", "folder", "in", "--set", wrong), part)


def test_a_failed_experiment_of_the_grid_is_named_and_the_exit_status_is_1(studylib, monkeypatch):
    failed = Mock(return_value=["experiment@triplet-0: it failed"])
    monkeypatch.setattr("studylib.pipeline.grid.run_grid", failed)
    done = studylib("grid", "--workers", "3")
    assert (done.returncode, done.stderr) == (1, "error: experiment@triplet-0: it failed\n")


def test_a_command_ends_with_dvc_which_has_started_it():
    own = "from studylib.files.processes import end_with_parent as e; e(); print(1, flush=True)"
    command = [sys.executable, "-c", f"{own}; import time; time.sleep(600)"]
    shell = f"import subprocess; subprocess.call({command})"
    pipe = {"stdout": subprocess.PIPE, "env": os.environ | {"DVC_STAGE": "experiment"}}
    with subprocess.Popen([sys.executable, "-c", shell], **pipe) as parent:
        parent.stdout.readline()
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
        assert not psutil.wait_procs([child], timeout=60)[1]
