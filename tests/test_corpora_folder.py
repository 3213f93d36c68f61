"""The folder source, and the way of all sources from files to a corpus."""

import errno
import os
import signal
import time

import numpy as np
import pandas as pd
import pytest
from processes import start
from trees import PLAIN, SPEAKERS, files_of, voice, write, write_tree

from studylib.corpora import decoding, preparation
from studylib.corpora.sources import prepare_corpus
from studylib.errors import StudyError

LENGTH = 1.6  # s of each recording of the tree
HALVES = {"pieces_per_utterance": 2, "session_effects": "mid", "splits": {"test": 2}}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("voices"), PLAIN, seconds=LENGTH)


def prepare(settings, out, **options):
    return prepare_corpus("folder", settings, out, progress=False, **({"workers": 1} | options))


def test_a_tree_becomes_a_corpus_with_the_samples_of_its_files(tree, tmp_path):
    corpus = prepare({"root": tree}, tmp_path / "out")
    table = corpus.utterances
    assert table["id"].tolist() == sorted(PLAIN)
    assert table["speaker"].tolist() == [name.split("/")[0] for name in sorted(PLAIN)]
    assert table["session"].tolist() == [name.rpartition("/")[0] for name in sorted(PLAIN)]
    assert set(table["split"]) == {"train"}
    for row, name in enumerate(table["id"]):
        assert np.array_equal(corpus.samples(row), voice(name, LENGTH))


def test_files_right_below_a_speaker_are_one_session_and_other_files_are_left_alone(tmp_path):
    root = write_tree(tmp_path / "in", ["anna/1.wav", "anna/2.flac"])
    (root / "anna" / "notes.txt").write_text("hello")
    (root / ".cache").mkdir()
    write(root / "anna" / "._1.wav", voice("hidden"))
    corpus = prepare({"root": root}, tmp_path / "out")
    assert corpus.utterances["id"].tolist() == ["anna/1.wav", "anna/2.flac"]
    assert set(corpus.utterances["session"]) == {"anna"}


def test_packed_and_in_place_give_the_same_crops(tmp_path):
    root = write_tree(tmp_path / "in", [name.replace("1.wav", "1.flac") for name in PLAIN])
    packed = prepare({"root": root}, tmp_path / "packed")
    in_place = prepare({"root": root, "storage": "in_place"}, tmp_path / "in_place")
    assert not (tmp_path / "in_place" / "audio.i16").exists()
    columns = ["id", "speaker", "session", "split", "length"]
    pd.testing.assert_frame_equal(packed.utterances[columns], in_place.utterances[columns])
    rng = np.random.default_rng(0)
    rows, starts = rng.integers(0, len(PLAIN), 100), rng.integers(0, 12_000, 100)
    for length in (3_000, 20_000):  # within an utterance, and beyond its end
        crops = packed.crops(rows, starts, length)
        assert np.array_equal(crops, in_place.crops(rows, starts, length))


def test_halves_with_session_effects_give_target_trials_of_held_out_speakers(tree, tmp_path):
    corpus = prepare({"root": tree, "max_utterances_per_speaker": 1} | HALVES, tmp_path / "out")
    table, trials = corpus.utterances, corpus.trials("test")
    assert len(table) == 2 * len(SPEAKERS)
    assert table["session"].is_unique
    assert corpus.description["counts"]["test_speakers"] == 2
    # Two speakers of two halves: 6 pairs, 2 of them of one speaker.
    assert trials["target"].value_counts().to_dict() == {False: 4, True: 2}
    assert np.mean(np.abs(corpus.samples(0) - halves(table["id"])[0].astype(float))) > 10
    settings = {"root": tree, "pieces_per_utterance": 2}
    clean = prepare(settings, tmp_path / "clean")
    for row, half in enumerate(halves(clean.utterances["id"])):
        assert np.array_equal(clean.samples(row), half)


def halves(ids):
    """The samples of each utterance `<recording>#1` or `<recording>#2`."""
    names = [name.split("#") for name in ids]
    return [np.split(voice(name, LENGTH), 2)[int(number) - 1] for name, number in names]


def test_the_bytes_depend_on_the_seed_and_not_on_workers(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "PART", 3)
    settings = {"root": tree, "max_utterances_per_speaker": 3} | HALVES
    prepare(settings, tmp_path / "one")
    prepare(settings, tmp_path / "three", workers=3)
    prepare(settings | {"seed": 1}, tmp_path / "other")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "three")
    assert files_of(tmp_path / "one")["audio.i16"] != files_of(tmp_path / "other")["audio.i16"]


def test_a_corpus_does_not_depend_on_where_its_files_lie(tree, tmp_path):
    write_tree(tmp_path / "moved" / "voices", PLAIN, LENGTH)
    name = {"name": "voices"}
    prepare({"root": tree} | name, tmp_path / "a")
    prepare({"root": tmp_path / "moved" / "voices"} | name, tmp_path / "b")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_a_folder_of_something_else_is_never_overwritten(tree, tmp_path):
    for overwrite in (False, True):
        with pytest.raises(StudyError, match="is there, and is not a corpus"):
            prepare({"root": tree}, tree, overwrite=overwrite)
    assert sorted(files_of(tree)) == sorted(PLAIN)
    (tmp_path / "empty").mkdir()
    prepare({"root": tree}, tmp_path / "empty")


# Manifests.


def test_a_manifest_may_have_a_byte_order_mark_tabs_backslashes_and_facts(tree, tmp_path):
    table = tmp_path / "table.tsv"
    table.write_bytes(
        b"\xef\xbb\xbfpath\tspeaker\tsplit\tsex\tid\r\n"
        b"anna\\monday\\1.wav\tA\ttrain\tf\tfirst\r\n"
        b"\r\n"
        b"bert/monday/1.wav\tB\ttest\tm\tsecond\r\n"
    )
    corpus = prepare({"root": tree, "manifest": table, "trials": {}}, tmp_path / "out")
    assert corpus.utterances["id"].tolist() == ["first", "second"]
    assert corpus.utterances["speaker"].tolist() == ["A", "B"]
    assert corpus.utterances["split"].tolist() == ["train", "test"]
    assert corpus.utterances["sex"].tolist() == ["f", "m"]
    assert np.array_equal(corpus.samples(0), voice("anna/monday/1.wav", LENGTH))


FAULTS = {
    "anna/monday/1.wav\tA\tf": r"line 3: expected 3 fields separated by commas, found 1",
    "anna/monday/1.wav,,f": r"line 3: the field 'speaker' is empty",
    "anna/monday/9.wav,A,f": r"line 3: the file .*9\.wav is missing",
    "anna/monday/1.wav,A,x": r"line 3: sex must be f or m, not 'x'",
    "anna/monday/1.wav,A,f,eval": r"line 3: expected 3 fields",
    "bert/monday/1.wav,B,m": r"has the id 'bert/monday/1\.wav', as .* has; ids must be unique",
}


@pytest.mark.parametrize("line", FAULTS)
def test_a_bad_line_of_a_manifest_is_named_or_skipped_and_reported(tree, tmp_path, line):
    table = tmp_path / "table.csv"
    good = "bert/monday/1.wav,B,m"
    table.write_text(f"path,speaker,sex\n{good}\n{line}\ncarl/monday/1.wav,C,m\n")
    settings = {"root": tree, "manifest": table}
    with pytest.raises(StudyError, match=FAULTS[line]):
        prepare(settings, tmp_path / "out")
    corpus = prepare(settings, tmp_path / "out", keep_going=True)
    assert corpus.utterances["speaker"].tolist() == ["B", "C"]
    report = pd.read_csv(tmp_path / "out.skipped.csv")
    assert len(report) == corpus.description["skipped"] == 1
    assert report["why"].str.contains(FAULTS[line]).all()


# What is wrong with a tree.


def _with_an_empty_speaker(root):
    write_tree(root, PLAIN)
    (root / "empty").mkdir()


def _with_a_lonely_speaker(root):
    write_tree(root, [*PLAIN, "lonely/1.wav"])


def _with_a_bad_file(root):
    write_tree(root, PLAIN)
    (root / "anna" / "monday" / "bad.wav").write_bytes(b"RIFF")


def _with_a_short_file(root):
    write_tree(root, PLAIN)
    write(root / "anna" / "monday" / "short.wav", voice("x", 0.01))


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (_with_an_empty_speaker, r"in/empty has no recordings"),
        (_with_a_lonely_speaker, r"Speaker 'lonely' has one utterance, but target trials need two"),
        (_with_a_bad_file, r"monday/bad\.wav cannot be read as audio"),
        (_with_a_short_file, r"monday/short\.wav lasts 0\.010 s; expected 0\.5 s or more"),
    ],
)
def test_a_fault_of_a_tree_is_named_or_skipped_and_reported(tmp_path, spoil, fault):
    spoil(tmp_path / "in")
    settings = {"root": tmp_path / "in", "splits": {"test": 1.0}}
    with pytest.raises(StudyError, match=fault):
        prepare(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    corpus = prepare(settings | {"keep_going": True}, tmp_path / "out")
    assert corpus.utterances["id"].tolist() == sorted(PLAIN)
    report = pd.read_csv(tmp_path / "out.skipped.csv")
    assert len(report) == 1
    assert report["why"].str.contains(fault).all()


def test_a_folder_without_speakers_is_refused(tmp_path):
    write(tmp_path / "in" / "1.wav", voice("x"))
    with pytest.raises(StudyError, match=r"in has no folders of speakers; expected"):
        prepare({"root": tmp_path / "in"}, tmp_path / "out", keep_going=True)
    with pytest.raises(StudyError, match=r"none cannot be read as a folder"):
        prepare({"root": tmp_path / "none"}, tmp_path / "out", keep_going=True)


def test_links_neither_repeat_recordings_nor_give_one_voice_to_two_speakers(tree, tmp_path):
    root = write_tree(tmp_path / "in", PLAIN)
    (root / "anna" / "loop").symlink_to(root / "anna")
    (root / "anna" / "up").symlink_to("..")
    linked = prepare({"root": root}, tmp_path / "out")
    assert linked.utterances["id"].tolist() == sorted(PLAIN)
    (root / "zoe").symlink_to(root / "anna")
    with pytest.raises(StudyError, match=r"in/zoe/.* is the same file as .*in/anna/"):
        prepare({"root": root}, tmp_path / "other")


def test_a_file_of_1970_is_there(tmp_path):
    root = write_tree(tmp_path / "in", ["anna/1.wav"])
    os.utime(root / "anna" / "1.wav", (0, 0))
    assert len(prepare({"root": root}, tmp_path / "out").utterances) == 1


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"roots": "x"}, r"folder: unknown key 'roots'; did you mean 'root'"),
        ({}, r"folder: root \(a folder of speakers\) or manifest"),
        ({"root": "x", "splits": {"test": -1}}, "folder: splits.test"),
        ({"root": "x", "storage": "in_place", "pieces_per_utterance": 2}, "need storage: packed"),
        ({"root": "x", "trials": {"t": {"recipe": "per_speaker"}}}, "needs n"),
        ({"root": "x", "trials": {"t": {}}}, "either a recipe or a file"),
        ({"root": "x", "trials": {"../t": {"recipe": "all_pairs"}}}, r"trials\.\.\./t"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, settings, fault):
    with pytest.raises(StudyError, match=fault):
        prepare(settings, tmp_path / "out")


# Interrupted, twice at once, and on a full disk.


def _slow_decode(path, minimum_seconds, plain=decoding.decode):
    time.sleep(0.02)
    return plain(path, minimum_seconds)


def _prepare_slowly(settings, out):
    decoding.PART = 2
    decoding.decode = _slow_decode
    prepare(settings, out)


def _n_decoded(out):
    log = out.with_name(f"{out.name}.decoded") / "log.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_killed_at_any_moment_and_run_again_it_writes_the_same_bytes(tree, tmp_path):
    settings, out = {"root": tree} | HALVES, tmp_path / "out"
    prepare(settings, tmp_path / "undisturbed")
    moments = [
        lambda: (tmp_path / "out.decoded" / "audio.i16").exists(),
        lambda: _n_decoded(out) >= 4,
        lambda: _n_decoded(out) >= 10,
        lambda: (tmp_path / "out.partial" / "trials").exists(),
    ]
    kept = []
    for has_come in moments:  # each run goes on from where the one before was killed
        child = start(_prepare_slowly, settings, out)
        while not has_come() and child.is_alive():
            time.sleep(0.0005)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        kept.append(_n_decoded(out))
    assert kept[0] <= kept[1] <= kept[2]
    assert kept[1] >= 4
    assert kept[2] >= 10
    prepare(settings, out)
    assert files_of(out) == files_of(tmp_path / "undisturbed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "undisturbed"]


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """Four recordings, decoded but not written; and the corpus that they make undisturbed."""
    write_tree(tmp_path / "in", PLAIN[:4])
    prepare({"root": tmp_path / "in"}, tmp_path / "expected")
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "write_corpus", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare({"root": tmp_path / "in"}, tmp_path / "out")
    assert _n_decoded(tmp_path / "out") == 4
    return tmp_path


def test_a_file_that_changed_since_the_kill_is_decoded_again(interrupted):
    write(interrupted / "in" / PLAIN[2], voice("changed"))
    corpus = prepare({"root": interrupted / "in"}, interrupted / "out")
    assert np.array_equal(corpus.samples(2), voice("changed"))
    assert np.array_equal(corpus.samples(1), voice(PLAIN[1]))


@pytest.mark.parametrize("name", ["audio.i16", "log.jsonl"])
def test_what_a_power_failure_has_cut_is_decoded_again(interrupted, name):
    path = interrupted / "out.decoded" / name
    os.truncate(path, int(0.6 * path.stat().st_size))
    prepare({"root": interrupted / "in"}, interrupted / "out")
    assert files_of(interrupted / "out") == files_of(interrupted / "expected")


def test_two_processes_that_prepare_one_corpus_do_the_work_once(tree, tmp_path):
    out, settings = tmp_path / "out", {"root": tree} | HALVES
    children = [start(_prepare_slowly, settings, out) for _ in range(2)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    prepare(settings, tmp_path / "alone")
    assert files_of(out) == files_of(tmp_path / "alone")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "out"]


def test_a_full_disk_is_explained_and_what_is_done_is_kept(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "PART", 4)
    plain, calls = os.fsync, []

    def fsync(file):
        calls.append(file)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(file)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StudyError, match=r"The disk is full.*: preparing a corpus in .* GB free"):
        prepare({"root": tree}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert _n_decoded(tmp_path / "out") == 8
    prepare({"root": tree}, tmp_path / "out")
    prepare({"root": tree}, tmp_path / "alone")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "alone")
