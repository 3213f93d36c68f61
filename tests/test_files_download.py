"""Downloads: resumed, retried, checked, never half there under their own name."""

import hashlib
import tarfile
import time

import numpy as np
import pytest
from server import serving

from studylib.errors import StudyError
from studylib.files import download as module
from studylib.files.download import download, unpack

CONTENT = np.random.default_rng(0).bytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serving({"file.bin": CONTENT}) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.001)


def fetch(server, folder, name="file.bin", sha256=SHA256):
    return download(f"{server.url}/{name}", folder / name, sha256)


def test_a_file_arrives_whole_and_is_not_fetched_twice(server, tmp_path):
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    fetch(server, tmp_path)
    assert server.asked == [("file.bin", None)]
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]
    (tmp_path / "file.bin").write_bytes(b"old")
    with pytest.raises(StudyError, match=r"file\.bin is not the expected file .* delete it"):
        fetch(server, tmp_path)


def test_a_broken_connection_is_resumed_from_where_it_broke(server, tmp_path):
    server.breaks_after = [300_000, 200_000]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    ranges = [wanted for _, wanted in server.asked]
    assert ranges == [None, "bytes=300000-", "bytes=500000-"]


@pytest.mark.parametrize("honours_ranges", [True, False])
@pytest.mark.parametrize("size", [400_000, len(CONTENT)])
def test_a_later_call_takes_what_an_earlier_one_left(server, tmp_path, size, honours_ranges):
    server.honours_ranges = honours_ranges
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:size])
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [("file.bin", f"bytes={size}-")]


@pytest.mark.parametrize("part", [b"another" * 1000, CONTENT + b"more"])
def test_a_part_of_another_file_is_found_out_and_the_next_call_succeeds(server, tmp_path, part):
    (tmp_path / "file.bin.part").write_bytes(part)
    with pytest.raises(StudyError, match="gave another file than expected"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_without_a_checksum_two_halves_are_never_joined(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"another" * 1000)
    assert fetch(server, tmp_path, sha256=None).read_bytes() == CONTENT
    assert server.asked == [("file.bin", None)]


def test_a_busy_server_is_asked_again_and_one_without_the_file_is_not(server, tmp_path):
    server.codes = [503, 429, 500]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 4
    with pytest.raises(StudyError, match=r"none\.bin: the server says 404 Not Found"):
        fetch(server, tmp_path, name="none.bin")
    assert len(server.asked) == 5


@pytest.mark.parametrize("fault", ["503 Service Unavailable", "timed out", "refused"])
def test_a_server_that_gives_nothing_is_given_up(server, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.1)
    if fault == "timed out":
        server.before_answer = lambda: time.sleep(0.5)
    if fault == "refused":
        server.url = "http://127.0.0.1:9"
    server.codes = [503] * 3
    with pytest.raises(StudyError, match=f"could not be downloaded .*{fault}.* run again to go on"):
        fetch(server, tmp_path)


# Archives.


def archive_of(path, *members):
    """A gzipped tar archive with an empty file of each name, or links (name, target)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, *target in members:
            member = tarfile.TarInfo(name)
            if target:
                member.type, member.linkname = tarfile.SYMTYPE, target[0]
            tar.addfile(member)
    return path


def test_an_archive_is_unpacked_whole_or_not_at_all(tmp_path):
    archive = archive_of(tmp_path / "a.tar.gz", *((f"x/{number}",) for number in range(100)))
    unpack(archive, tmp_path / "out")
    assert len(list((tmp_path / "out" / "x").iterdir())) == 100
    archive.write_bytes(archive.read_bytes()[:500])
    with pytest.raises(StudyError, match=r"a\.tar\.gz is refused"):
        unpack(archive, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "out"]


@pytest.mark.parametrize("evil", [("../evil",), ("x/../../evil",), ("link", "../../evil")])
def test_a_member_outside_the_folder_is_refused_and_nothing_is_written(tmp_path, evil):
    archive = archive_of(tmp_path / "a.tar.gz", ("x/1",), evil)
    with pytest.raises(StudyError, match=r"a\.tar\.gz is refused: .*outside"):
        unpack(archive, tmp_path / "in" / "out")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.tar.gz"]
    assert list((tmp_path / "in").iterdir()) == []
