"""LibriSpeech, from a tree and from archives on a server of our own."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from server import serving
from trees import files_of, voice, write

from studylib.corpora.librispeech import CHECKSUMS
from studylib.corpora.sources import prepare_corpus
from studylib.errors import StudyError

SPEAKERS_TXT = """; comment
;ID  |SEX| SUBSET           |MINUTES| NAME
60   | M | train-clean-100  | 20.18 | |CBW|Simon
61   | F | dev-clean        | 8.08  | Anna
62   | M | dev-clean        | 8.08  | Bert
"""
NAMES = [
    f"{subset}/{speaker}/{chapter}/{speaker}-{chapter}-{number:04}.flac"
    for subset, speakers in {"train-clean-100": (60,), "dev-clean": (61, 62)}.items()
    for speaker in speakers
    for chapter in (7, 8)
    for number in (0, 1)
]
SUBSETS = {"train-clean-100": "train", "dev-clean": "dev"}


@pytest.fixture
def tree(tmp_path):
    for name in NAMES:
        write(tmp_path / "in" / "LibriSpeech" / name, voice(Path(name).stem))
    (tmp_path / "in" / "LibriSpeech" / "SPEAKERS.TXT").write_text(SPEAKERS_TXT)
    return tmp_path / "in"


def prepare(settings, out):
    return prepare_corpus("librispeech", {"subsets": SUBSETS} | settings, out)


@pytest.mark.parametrize("below", ["", "LibriSpeech"])
def test_a_tree_becomes_a_corpus_with_names_chapters_and_sexes(tree, tmp_path, below):
    corpus = prepare({"root": tree / below}, tmp_path / "out")
    table = corpus.utterances.set_index("id")
    assert sorted(table.index) == sorted(Path(name).stem for name in NAMES)
    row = table.loc["61-7-0001"]
    assert (row["speaker"], row["session"], row["split"], row["sex"]) == ("61", "61-7", "dev", "f")
    assert table.loc["60-8-0000", "sex"] == "m"
    assert table.loc["60-8-0000", "split"] == "train"
    assert corpus.trial_lists == ("dev",)
    assert corpus.description["licence"].startswith("CC BY 4.0")
    for position, name in enumerate(corpus.utterances["id"]):
        assert np.array_equal(corpus.samples(position), voice(name))


def test_a_missing_subset_is_named(tree, tmp_path):
    with pytest.raises(StudyError, match=r"has no LibriSpeech/test-clean: set download: true"):
        prepare({"root": tree, "subsets": {"test-clean": "test"}}, tmp_path / "out")
    with pytest.raises(StudyError, match=r"librispeech: subsets\.train-100.*'dev-clean'"):
        prepare({"root": tree, "subsets": {"train-100": "test"}}, tmp_path / "out")


def archive_of(tree, subset):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(tree / "LibriSpeech" / subset, f"LibriSpeech/{subset}")
        tar.add(tree / "LibriSpeech" / "SPEAKERS.TXT", "LibriSpeech/SPEAKERS.TXT")
    return packed.getvalue()


def test_a_download_gives_the_corpus_that_the_tree_gives(tree, tmp_path, monkeypatch):
    files = {f"{subset}.tar.gz": archive_of(tree, subset) for subset in SUBSETS}
    for subset in SUBSETS:
        checksum = hashlib.sha256(files[f"{subset}.tar.gz"]).hexdigest()
        monkeypatch.setitem(CHECKSUMS, subset, checksum)
    new = tmp_path / "new"
    with serving(files) as server:
        server.breaks_after = [2000]
        settings = {"root": new, "download": True, "base_url": server.url}
        prepare(settings, tmp_path / "downloaded")
        prepare({"root": tree}, tmp_path / "read")
        assert files_of(tmp_path / "downloaded") == files_of(tmp_path / "read")
        assert {path.name for path in new.iterdir()} == {"LibriSpeech", *files}
        assert len(server.asked) == 3  # the archives, and one of them twice
        prepare(settings, tmp_path / "again")
        assert len(server.asked) == 3
