"""The further corpora of a study: prepared where described, taken where there, else refused."""

import copy

import pytest
import yaml
from tiny_project import PARAMS
from trees import PLAIN, write_tree

from studylib.errors import StudyError
from studylib.files.atomic import read_json
from studylib.pipeline.corpora import prepare_corpora
from studylib.pipeline.params import read_params


@pytest.fixture
def study(tmp_path, monkeypatch, tiny_corpus):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("tiny", "there"):
        (tmp_path / "data" / name).symlink_to(tiny_corpus.folder)
    write_tree(tmp_path / "data" / "sources" / "people", PLAIN)
    study = copy.deepcopy(PARAMS)
    study["evaluate"]["also"] = ["people", "there"]
    settings = {"root": "data/sources/people", "splits": {"test": 1.0}}
    study["test_sets"] = {"people": {"source": "folder", "settings": settings}}
    return study


def prepared(root, study):
    (root / "params.yaml").write_text(yaml.safe_dump(study))
    return prepare_corpora(root, read_params(root / "params.yaml"), {})


def test_described_corpora_are_prepared_and_all_checksums_are_written(tmp_path, study):
    own, people, there = prepared(tmp_path, study)
    assert (own.folder.name, people.folder.name) == ("tiny", "people")
    assert people.utterances["split"].unique().tolist() == ["test"]
    written = read_json(tmp_path / "results" / "mini" / "test_sets.json")
    assert written == {"people": people.provenance, "there": there.provenance}
    study["evaluate"]["also"] = []
    assert len(prepared(tmp_path, study)) == 1
    assert read_json(tmp_path / "results" / "mini" / "test_sets.json") == {}


def test_a_corpus_that_is_neither_described_nor_there_is_refused(tmp_path, study):
    study["evaluate"]["also"] = ["peopel"]
    with pytest.raises(StudyError, match="data/peopel is not a corpus"):
        prepared(tmp_path, study)
