"""The folder source, and the way of all sources from files to a corpus."""

import errno
import json
import os
import signal
import time
from functools import partial
from unittest.mock import Mock

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
prepare = partial(prepare_corpus, "folder")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("voices"), PLAIN, seconds=LENGTH)


@pytest.mark.parametrize("storage", ["packed", "in_place"])
def test_a_tree_becomes_a_corpus_with_the_samples_of_its_files(tree, tmp_path, storage):
    corpus = prepare({"root": tree, "splits": {}, "storage": storage}, tmp_path / "out")
    assert (corpus.folder / "audio.i16").exists() == (storage == "packed")
    table = corpus.utterances
    assert table["id"].tolist() == sorted(PLAIN)
    assert table["speaker"].tolist() == [name.split("/")[0] for name in sorted(PLAIN)]
    assert table["session"].tolist() == [name.rpartition("/")[0] for name in sorted(PLAIN)]
    assert set(table["split"]) == {"train"}
    for row, name in enumerate(table["id"]):
        assert np.array_equal(corpus.samples(row), voice(name, LENGTH))


def test_other_files_are_left_alone_and_one_of_1970_is_there(tmp_path):
    root = write_tree(tmp_path / "in", ["anna/1.wav", "anna/2.flac"])
    (root / "anna" / "notes.txt").write_text("hello")
    (root / ".cache").mkdir()
    write(root / "anna" / "._1.wav", voice("hidden"))
    os.utime(root / "anna" / "1.wav", (0, 0))
    corpus = prepare({"root": root, "splits": {}}, tmp_path / "out")
    assert corpus.utterances["id"].tolist() == ["anna/1.wav", "anna/2.flac"]
    assert set(corpus.utterances["session"]) == {"anna"}


def test_halves_with_session_effects_give_target_trials_of_held_out_speakers(tmp_path):
    root = write_tree(tmp_path / "in", [f"{speaker}/1.wav" for speaker in SPEAKERS], LENGTH)
    corpus = prepare({"root": root} | HALVES, tmp_path / "out")
    table, trials = corpus.utterances, corpus.trials("test")
    assert len(table) == 2 * len(SPEAKERS)
    assert table["session"].is_unique
    assert corpus.description["counts"]["test_speakers"] == 2
    # Two speakers of two halves: 6 pairs, 2 of them of one speaker.
    assert trials["target"].value_counts().to_dict() == {False: 4, True: 2}
    clean = prepare({"root": root, "pieces_per_utterance": 2}, tmp_path / "clean")
    for row, name in enumerate(clean.utterances["id"]):
        recording, number = name.split("#")
        half = np.split(voice(recording, LENGTH), 2)[int(number) - 1]
        assert np.array_equal(clean.samples(row), half)
        assert np.mean(np.abs(corpus.samples(row) - half.astype(float))) > 10


def test_the_bytes_depend_on_the_seed_and_not_on_cores_or_places(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "PART", 3)
    moved = write_tree(tmp_path / "moved", PLAIN, LENGTH)
    settings = HALVES | {"name": "voices"}
    prepare(settings | {"root": tree}, tmp_path / "one")
    prepare(settings | {"root": tree, "seed": 1}, tmp_path / "other")
    monkeypatch.setattr(decoding, "usable_cores", lambda: 1)
    prepare(settings | {"root": moved}, tmp_path / "alone")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "alone")
    assert files_of(tmp_path / "one")["audio.i16"] != files_of(tmp_path / "other")["audio.i16"]


def test_a_folder_of_something_else_is_never_overwritten(tree, tmp_path):
    for overwrite in (False, True):
        with pytest.raises(StudyError, match="is there, and is not a corpus"):
            prepare({"root": tree}, tree, overwrite=overwrite)
    assert sorted(files_of(tree)) == sorted(PLAIN)
    (tmp_path / "empty").mkdir()
    prepare({"root": tree}, tmp_path / "empty")


def test_links_that_repeat_or_leave_the_tree_give_no_voice_to_two_speakers(tmp_path, capsys):
    root = write_tree(tmp_path / "in", PLAIN)
    (root / "anna" / "loop").symlink_to(root / "anna")
    (root / "anna" / "up").symlink_to("..")
    (root / "eva").symlink_to(write_tree(tmp_path / "elsewhere", ["1.wav", "2.wav"]))
    linked = prepare({"root": root}, tmp_path / "out")
    assert linked.utterances["id"].tolist() == sorted([*PLAIN, "eva/1.wav", "eva/2.wav"])
    told = capsys.readouterr().out
    assert f"anna/loop is a link to {root}/anna, whose recordings are read once" in told
    assert f"in/eva is a link out of the tree, to {tmp_path}/elsewhere" in told
    (root / "zoe").symlink_to(root / "anna")
    with pytest.raises(StudyError, match="in/zoe has no recordings"):
        prepare({"root": root}, tmp_path / "other")


def test_the_same_recording_under_two_names_is_told_and_refused_of_two_speakers(tmp_path, capsys):
    root = write_tree(tmp_path / "in", PLAIN)
    write(root / "anna" / "monday" / "3.flac", voice(PLAIN[0]))
    assert len(prepare({"root": root}, tmp_path / "out").utterances) == len(PLAIN) + 1
    assert "3.flac is the same recording as" in capsys.readouterr().out
    write(root / "bert" / "monday" / "3.flac", voice(PLAIN[0]))
    same = r"bert/monday/3\.flac is the same recording as .*anna/monday/1\.wav, of another speaker"
    with pytest.raises(StudyError, match=same):
        prepare({"root": root}, tmp_path / "other")
    kept = prepare({"root": root, "keep_going": True, "splits": {"test": 2}}, tmp_path / "other")
    assert len(kept.utterances) == len(PLAIN) + 1
    for row, name in enumerate(kept.utterances["id"]):
        assert np.array_equal(kept.samples(row), voice(name.replace("3.flac", "1.wav")))


@pytest.mark.parametrize(("n", "expected"), [(3, {"test": 3}), (20, {"train": 14, "test": 4})])
def test_without_splits_few_speakers_are_all_tested_of_many_a_fifth(tmp_path, capsys, n, expected):
    write_tree(tmp_path / "in", [f"s{speaker}/{k}.wav" for speaker in range(n) for k in (1, 2)])
    corpus = prepare({"root": tmp_path / "in"}, tmp_path / "out")
    speakers = corpus.utterances.groupby("split")["speaker"].nunique().to_dict()
    assert speakers == expected | ({"dev": 2} if n == 20 else {})
    assert f"No splits are set: of {n} speakers" in capsys.readouterr().out


def test_a_pattern_finds_the_speaker_and_one_take_of_two_microphones_is_no_trial(tmp_path):
    names = [f"{who}_{take}_mic{mic}.wav" for who in "ab" for take in (1, 2) for mic in (1, 2)]
    root = write_tree(tmp_path / "in", names)
    pattern = r"^(?P<speaker>[a-z])_(?P<take>\d)_(?P<session>mic\d)"
    corpus = prepare({"root": root, "speaker_pattern": pattern}, tmp_path / "out")
    table, trials = corpus.utterances, corpus.trials("test")
    assert table["speaker"].tolist() == [name[0] for name in names]
    assert set(table["session"]) == {"mic1", "mic2"}
    pairs = {(names[one][:3], names[two][:3]) for one, two in trials[["first", "second"]].values}
    assert not any(one == two for one, two in pairs)
    assert len(trials) == 8 * 7 / 2 - 4  # all pairs but the four takes
    write(root / "x1.wav", voice("x1"))
    with pytest.raises(StudyError, match=r"speaker_pattern finds no speaker in x1\.wav"):
        prepare({"root": root, "speaker_pattern": pattern}, tmp_path / "other")


def test_a_folder_one_level_too_high_is_told_the_right_level(tmp_path):
    write_tree(tmp_path / "high", [f"{half}/{name}" for half in ("a", "b") for name in PLAIN])
    with pytest.raises(StudyError, match=r"if the folders in .*high/[ab] are the speakers"):
        prepare({"root": tmp_path / "high"}, tmp_path / "out")


def test_a_manifest_may_have_a_byte_order_mark_tabs_backslashes_and_facts(tree, tmp_path):
    table = tmp_path / "table.tsv"
    table.write_bytes(
        b"\xef\xbb\xbfpath\tspeaker\tsplit\tsex\tid\r\n"
        b"anna\\monday\\1.wav\tA\ttrain\tf\tfirst\r\n"
        b"\r\n"
        b"bert/monday/1.wav\tB\ttest\tm\tsecond\r\n"
    )
    corpus = prepare({"root": tree, "manifest": table, "trials": {}}, tmp_path / "out")
    columns = corpus.utterances[["id", "speaker", "split", "sex"]].to_dict("split")["data"]
    assert columns == [["first", "A", "train", "f"], ["second", "B", "test", "m"]]
    assert np.array_equal(corpus.samples(0), voice("anna/monday/1.wav", LENGTH))


# What is wrong: named, or skipped and listed.

LINES = {
    "anna/monday/1.wav\tA\tf": r"line 3: found 1 fields in place of 3",
    "anna/monday/1.wav,,f": r"line 3: the field 'speaker' is empty",
    "anna/monday/9.wav,A,f": r"line 3: the file .*9\.wav is missing",
    "anna/monday/1.wav,A,x": r"line 3: sex must be f or m, not 'x'",
    "bert/monday/1.wav,B,m": r"has the id 'bert/monday/1\.wav', as .* has; ids must be unique",
}
# A file more in the tree: its samples.
FILES = {
    "lonely/1.wav": (0.8, r"Speaker 'lonely' has one utterance, but target trials need two"),
    "anna/monday/short.wav": (0.01, r"short\.wav lasts 0\.010 s; expected 0\.5 s or more"),
    "ｄora/1.wav": (0.8, "is of 'ｄora', which only case or Unicode form tells from 'dora'"),
    "empty/1.txt": (0, r"in/empty has no recordings"),
}


@pytest.mark.parametrize("spoilt", [*LINES, *FILES])
def test_a_fault_is_named_or_skipped_and_reported(tree, tmp_path, spoilt):
    if spoilt in LINES:
        table, fault = tmp_path / "table.csv", LINES[spoilt]
        good = ["bert/monday/1.wav,B,m", "carl/monday/1.wav,C,m"]
        table.write_text("\n".join(["path,speaker,sex", good[0], spoilt, good[1]]))
        settings = {"root": tree, "manifest": table, "splits": {}}
        expected = [line[:17] for line in good]
    else:
        root, (seconds, fault) = write_tree(tmp_path / "in", PLAIN), FILES[spoilt]
        write(root / spoilt, voice("x", seconds), format="WAV")
        settings, expected = {"root": root, "splits": {"test": 1.0}}, sorted(PLAIN)
    with pytest.raises(StudyError, match=fault):
        prepare(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    corpus = prepare(settings | {"keep_going": True}, tmp_path / "out")
    assert corpus.utterances["id"].tolist() == expected
    report = pd.read_csv(tmp_path / "out.skipped.csv")
    assert len(report) == corpus.description["skipped"] == 1
    assert report["why"].str.contains(fault).all()


WRONG = [
    ({"roots": "x"}, r"folder: unknown key 'roots'; did you mean 'root'"),
    ({}, r"folder: root \(a folder of speakers\) or manifest"),
    ({"root": "none"}, "none cannot be read as a folder"),
    ({"root": "in/anna/monday"}, "monday has no folders of speakers; expected"),
    ({"root": "."}, "in, which would be the only speaker; if the 2 folders in .*in are the"),
    ({"root": "in", "manifest": "table.csv"}, "Speaker 'A' is in more than one split"),
    ({"root": "in", "manifest": "start.csv"}, "makes the column 'start': rename it"),
    ({"root": "in", "manifest": "twice.csv"}, "a column occurs twice among"),
    ({"root": "in", "speaker_pattern": "(.)"}, r"folder: speaker_pattern: expected a group"),
    ({"root": "x", "storage": "in_place", "pieces_per_utterance": 2}, "need storage: packed"),
    ({"root": "x", "trials": {"t": {}}}, "either a recipe or a file"),
    ({"root": "x", "trials": {"../t": {"recipe": "all_pairs"}}}, r"trials\.\.\./t"),
]


@pytest.mark.parametrize(("settings", "fault"), WRONG)
def test_a_wrong_setting_is_named(tmp_path, monkeypatch, settings, fault):
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "in", PLAIN[:8])
    rows = f"path,speaker,split\n{PLAIN[0]},A,train\n{PLAIN[1]},A,test\n"
    (tmp_path / "table.csv").write_text(rows)
    (tmp_path / "start.csv").write_text(f"path,speaker,start\n{PLAIN[0]},A,1\n")
    (tmp_path / "twice.csv").write_text(f"path,speaker,path\n{PLAIN[0]},A,1\n")
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
    lines = log.read_text().split("\n")[:-1] if log.exists() else ()
    return sum(len(json.loads(line)[1]) for line in lines)


def test_killed_at_any_moment_and_run_again_it_writes_the_same_bytes(tree, tmp_path):
    settings, out = {"root": tree} | HALVES, tmp_path / "out"
    prepare(settings, tmp_path / "undisturbed")
    for n in (4, 10):  # the second run goes on from where the first was killed
        child = start(_prepare_slowly, settings, out)
        while _n_decoded(out) < n and child.is_alive():
            time.sleep(0.0005)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert _n_decoded(out) >= n
    prepare(settings, out)
    assert files_of(out) == files_of(tmp_path / "undisturbed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "undisturbed"]


@pytest.mark.parametrize("damage", ["audio.i16", "log.jsonl", "a changed recording", "a bit"])
def test_what_has_changed_since_the_kill_is_decoded_again(tmp_path, monkeypatch, damage):
    root, decoded = write_tree(tmp_path / "in", PLAIN[2:6]), tmp_path / "out.decoded"
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "write_corpus", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare({"root": root}, tmp_path / "out")
    assert _n_decoded(tmp_path / "out") == 4
    if damage == "a changed recording":
        write(root / PLAIN[2], voice("changed"))
    elif damage == "a bit":
        samples = bytearray((decoded / "audio.i16").read_bytes())
        samples[len(samples) // 2] ^= 1
        (decoded / "audio.i16").write_bytes(samples)
    else:
        os.truncate(decoded / damage, int(0.6 * (decoded / damage).stat().st_size))
    prepare({"root": root}, tmp_path / "out")
    prepare({"root": root}, tmp_path / "expected")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "expected")


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
    full = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Mock(side_effect=[None, None, full]))
        with pytest.raises(StudyError, match=r"The disk is full.*: preparing a corpus"):
            prepare({"root": tree}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert _n_decoded(tmp_path / "out") == 8
    prepare({"root": tree}, tmp_path / "out")
    prepare({"root": tree}, tmp_path / "alone")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "alone")
