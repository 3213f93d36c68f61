"""A user's mistake is one sentence and exit status 2, through the command and through papermill."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trees import PLAIN, write_tree

from studylib.corpora.store import open_corpus
from studylib.pipeline.params import read_params

ROOT = Path(__file__).parent.parent


@pytest.fixture
def project(tmp_path):
    """A project folder without a corpus: what a user's checkout holds."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copytree(ROOT / "studylib", tmp_path / "studylib")
    return tmp_path


def studylib(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(project), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "studylib", *arguments]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def assert_one_sentence(done: subprocess.CompletedProcess, part: str) -> None:
    assert done.returncode == 2
    # Bars, and what a kernel says that is stopped on a busy machine.
    bars = ("Decoding:", "Speaking:", "[IPKernelApp]")
    lines = [
        line for line in done.stderr.splitlines() if line.strip() and not line.startswith(bars)
    ]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert part in lines[0]


def test_an_unknown_key_in_the_parameters_stops_the_plan_and_writes_nothing(project):
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("crop_seconds: 2.0", "crop_secs: 2.0"))
    assert_one_sentence(studylib(project, "plan"), "unknown key 'train.crop_secs'")
    assert not (project / "results").exists()


def test_a_missing_corpus_is_one_sentence(project):
    assert_one_sentence(studylib(project, "train", "triplet"), "embedded-default")
    assert not (project / "results").exists()


def test_a_misspelt_notebook_parameter_is_one_sentence_and_trains_nothing(project):
    done = studylib(project, "notebook", "train", "out/copy.ipynb", "-p", "los=triplet")
    assert_one_sentence(done, "unknown parameter 'los'; did you mean 'loss'?")
    assert not (project / "results").exists()


def test_a_study_is_checked_before_it_becomes_the_active_one(project):
    before = (project / "params.yaml").read_bytes()
    wrong = project / "wrong.yaml"
    wrong.write_text(before.decode().replace("name: am_softmax, margin", "name: am_softmax, magin"))
    assert_one_sentence(studylib(project, "study", "wrong.yaml"), "unknown key 'magin'")
    assert (project / "params.yaml").read_bytes() == before


def test_a_study_tells_its_crops_and_the_hours_at_a_given_speed(project):
    params = read_params(project / "params.yaml")
    crops = 0
    for run in params.study.runs:
        train = params.train | params.runs[run].train
        batch = train["speakers_per_batch"] * train["utterances_per_speaker"]
        crops += batch * -(-train["crops"] // batch)  # a run ends with a whole batch
    done = studylib(project, "study", "params.yaml", "--crops-per-second", str(crops / 1800))
    assert done.returncode == 0, done.stderr
    assert f"{crops:,} training crops in all, about 0.5 hours" in done.stdout


def test_a_folder_becomes_a_corpus_without_params_and_what_is_skipped_is_told(project):
    write_tree(project / "in", PLAIN)
    (project / "in" / "anna" / "monday" / "9.wav").write_text("no audio")
    words = ["corpus", "folder", "in", "--set", "splits.test=2", "--out", "out/mine"]
    assert_one_sentence(studylib(project, *words), "9.wav")
    done = studylib(project, *words, "--keep-going")
    assert done.returncode == 0, done.stderr
    assert "mine.skipped.csv" in done.stdout
    corpus = open_corpus(project / "out" / "mine")
    assert len(corpus.utterances) == len(PLAIN)
    assert corpus.utterances.query("split == 'test'")["speaker"].nunique() == 2


def test_a_source_that_does_not_exist_or_a_key_it_lacks_is_one_sentence(project):
    assert_one_sentence(studylib(project, "corpus", "flder", "in"), "one of embedded, folder")
    wrong = studylib(project, "corpus", "folder", "in", "--set", "spilts.test=2")
    assert_one_sentence(wrong, "unknown key 'spilts'")


def test_trunks_are_listed_as_json_with_the_papers_sizes(project):
    done = studylib(project, "trunks", "--json")
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    assert table["fast_resnet34"]["parameters"] == 1_437_078


OUR_NAMES_TO_THEIRS = {
    "pooling.attention.linear.": "sap_linear.",
    "pooling.attention.context": "attention",
    ".se.down.": ".se.fc.0.",
    ".se.up.": ".se.fc.2.",
    ".shortcut.": ".downsample.",
}


def test_the_authors_checkpoint_becomes_a_model_that_can_be_loaded(project):
    from studylib.models.embedder import load_model
    from studylib.models.trunks import TRUNKS

    trunk = TRUNKS["fast_resnet34"](embedding_dim=32)
    renamed = {}
    for name, value in trunk.state_dict().items():
        for ours, theirs in OUR_NAMES_TO_THEIRS.items():
            name = name.replace(ours, theirs)
        renamed[f"__S__.{name}"] = value
    torch.save(renamed, project / "baseline.model")
    options = ["--embedding-dim", "32"]
    done = studylib(project, "import", "baseline.model", "chung.safetensors", *options)
    assert done.returncode == 0, done.stderr
    assert "used     __S__.conv1.weight -> conv1.weight" in done.stdout
    model, scoring = load_model(project / "chung.safetensors")
    assert scoring == "cosine"
    assert torch.equal(model.trunk.conv1.weight, trunk.conv1.weight)
