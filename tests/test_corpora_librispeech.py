"""LibriSpeech, from a tree and from archives on a server of our own."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from server import serving
from trees import files_of, voice, write

from studylib.corpora.librispeech import CHECKSUMS, read_speakers
from studylib.corpora.report import Report
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
SAMPLES = Path(__file__).parents[2] / "shared" / "librispeech-samples" / "LibriSpeech"
SUBSET = "train-clean-100"


@pytest.fixture
def tree(tmp_path):
    for name in NAMES:
        write(tmp_path / "in" / "LibriSpeech" / name, voice(Path(name).stem))
    (tmp_path / "in" / "LibriSpeech" / "SPEAKERS.TXT").write_text(SPEAKERS_TXT)
    return tmp_path / "in"


def prepare(settings, out, **options):
    settings = {"subsets": SUBSETS} | settings
    return prepare_corpus("librispeech", settings, out, workers=1, progress=False, **options)


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
    with pytest.raises(StudyError, match=r"LibriSpeech has no subset 'train-100' \(known: dev-cl"):
        prepare({"root": tree, "subsets": {"train-100": "test"}}, tmp_path / "out")


def test_a_file_in_the_wrong_folder_is_named(tree, tmp_path):
    path = tree / "LibriSpeech" / "dev-clean" / "61" / "7" / "62-7-0009.flac"
    write(path, voice("x"))
    with pytest.raises(StudyError, match=r"62-7-0009\.flac should be named 61-7-<number>\.flac"):
        prepare({"root": tree}, tmp_path / "out")


@pytest.mark.parametrize("line", ["63 | X | dev-clean | 8 | Carl", "63, F, dev-clean"])
def test_a_bad_line_of_the_table_of_speakers_is_named(tmp_path, line):
    path = tmp_path / "SPEAKERS.TXT"
    path.write_text(SPEAKERS_TXT + line + "\n")
    with pytest.raises(StudyError, match=r"SPEAKERS\.TXT, line 6: expected 'ID \| F or M"):
        read_speakers(path, Report())
    assert read_speakers(path, Report(keep_going=True)) == {"60": "m", "61": "f", "62": "m"}


def archive_of(tree, subset, extra=()):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(tree / "LibriSpeech" / subset, f"LibriSpeech/{subset}")
        tar.add(tree / "LibriSpeech" / "SPEAKERS.TXT", "LibriSpeech/SPEAKERS.TXT")
        for name in extra:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return packed.getvalue()


@pytest.fixture
def server(tree, monkeypatch):
    files = {f"{subset}.tar.gz": archive_of(tree, subset) for subset in SUBSETS}
    for subset in SUBSETS:
        checksum = hashlib.sha256(files[f"{subset}.tar.gz"]).hexdigest()
        monkeypatch.setitem(CHECKSUMS, subset, checksum)
    with serving(files) as running:
        yield running


def test_a_download_gives_the_corpus_that_the_tree_gives(tree, server, tmp_path):
    server.breaks_after = [2000]
    settings = {"root": tmp_path / "new", "download": True, "base_url": server.url}
    prepare(settings, tmp_path / "downloaded")
    prepare({"root": tree}, tmp_path / "read")
    assert files_of(tmp_path / "downloaded") == files_of(tmp_path / "read")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "LibriSpeech",
        "dev-clean.tar.gz",
        "train-clean-100.tar.gz",
    ]
    asked = len(server.asked)
    prepare(settings, tmp_path / "again")
    assert len(server.asked) == asked


def test_an_archive_with_a_member_outside_its_folder_leaves_nothing(
    tree, server, tmp_path, monkeypatch
):
    evil = archive_of(tree, "dev-clean", extra=["LibriSpeech/../../evil"])
    server.files["dev-clean.tar.gz"] = evil
    monkeypatch.setitem(CHECKSUMS, "dev-clean", hashlib.sha256(evil).hexdigest())
    settings = {"root": tmp_path / "new", "download": True, "base_url": server.url}
    with pytest.raises(StudyError, match=r"dev-clean\.tar\.gz is refused: .*outside"):
        prepare(settings | {"subsets": {"dev-clean": "dev"}}, tmp_path / "out")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["dev-clean.tar.gz"]


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples of LibriSpeech are not here")
def test_real_speech_gives_the_same_crops_by_every_way(tmp_path):
    (tmp_path / "LibriSpeech" / SUBSET).mkdir(parents=True)
    for speaker in sorted(os.listdir(SAMPLES / SUBSET))[::12]:
        (tmp_path / "LibriSpeech" / SUBSET / speaker).symlink_to(SAMPLES / SUBSET / speaker)
    (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").symlink_to(SAMPLES / "SPEAKERS.TXT")
    sources = {
        "librispeech": {"root": tmp_path, "subsets": {SUBSET: "train"}},
        "folder": {"root": tmp_path / "LibriSpeech" / SUBSET},
    }
    crops = []
    for source, own in sources.items():
        for storage in ("packed", "in_place"):
            out, settings = tmp_path / f"{source} {storage}", own | {"storage": storage}
            corpus = prepare_corpus(source, settings, out, workers=1, progress=False)
            stems = corpus.utterances["id"].map(lambda name: Path(name).stem)
            rows = np.argsort(stems.to_numpy())
            crops.append(corpus.crops(rows, np.arange(len(rows)) * 1000, 32_000))
    assert len(np.unique(crops[0], axis=0)) > 20
    for others in crops[1:]:
        assert np.array_equal(others, crops[0])
