"""Downloads: resumed, retried, checked, never half there under their own name."""

import errno
import hashlib
import io
import tarfile
import time

import numpy as np
import pytest
from processes import start
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


def fetch(server, folder, name="file.bin", **options):
    options = {"sha256": SHA256, "progress": False, "timeout": 5.0} | options
    return download(f"{server.url}/{name}", folder / name, **options)


def test_a_file_arrives_whole_and_is_not_fetched_twice(server, tmp_path):
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    fetch(server, tmp_path)
    assert server.asked == [("file.bin", None)]
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_a_broken_connection_is_resumed_from_where_it_broke(server, tmp_path):
    server.breaks_after = [300_000, 200_000]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    ranges = [wanted for _, wanted in server.asked]
    assert ranges == [None, "bytes=300000-", "bytes=500000-"]


def test_a_later_call_resumes_what_an_earlier_one_left(server, tmp_path):
    server.breaks_after = [400_000]
    with pytest.raises(StudyError, match=r"could not be downloaded .* run again to go on"):
        fetch(server, tmp_path, attempts=1)
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin.part"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == ("file.bin", "bytes=400000-")


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.honours_ranges = False
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(StudyError, match=r"gave another file than expected: its SHA-256 is not 00"):
        fetch(server, tmp_path, sha256="00" * 32)
    assert list(tmp_path.iterdir()) == []


def test_all_bytes_that_an_earlier_call_left_are_checked_and_taken(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [("file.bin", "bytes=1000000-")]


@pytest.mark.parametrize("part", [b"another" * 1000, CONTENT + b"more"])
def test_a_part_of_another_file_is_found_out_and_the_next_call_succeeds(server, tmp_path, part):
    (tmp_path / "file.bin.part").write_bytes(part)
    with pytest.raises(StudyError, match="gave another file than expected"):
        fetch(server, tmp_path)
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_without_a_checksum_two_halves_are_never_joined(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"another" * 1000)
    assert fetch(server, tmp_path, sha256=None).read_bytes() == CONTENT
    assert server.asked == [("file.bin", None)]


def test_a_file_that_lies_there_with_a_wrong_checksum_is_named(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(b"old")
    with pytest.raises(StudyError, match=r"file\.bin is not the expected file .* delete it"):
        fetch(server, tmp_path)


def test_a_missing_file_is_refused_at_once(server, tmp_path):
    with pytest.raises(StudyError, match=r"none\.bin: the server says 404 Not Found"):
        fetch(server, tmp_path, name="none.bin")
    assert len(server.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.codes = [503, 429, 500]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 4


@pytest.mark.parametrize("fault", ["503 Service Unavailable", "timed out", "refused"])
def test_a_server_that_gives_nothing_is_given_up(server, tmp_path, fault):
    if fault == "timed out":
        server.before_answer = lambda: time.sleep(0.5)
    server.codes = [503] * 3
    url = "http://127.0.0.1:9" if fault == "refused" else server.url
    with pytest.raises(StudyError, match=f"could not be downloaded .*{fault}"):
        download(f"{url}/x", tmp_path / "x", attempts=2, timeout=0.1, progress=False)


def test_only_web_addresses_are_read(tmp_path):
    with pytest.raises(StudyError, match="expected http:// or https://"):
        download("file:///etc/passwd", tmp_path / "x", progress=False)


class FullFile(io.FileIO):
    def write(self, block):
        if self.tell() + len(block) > 600_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(block)


def test_a_full_disk_keeps_what_has_arrived_for_the_next_call(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "open", lambda path, mode: FullFile(path, mode), raising=False)
        with pytest.raises(StudyError, match=r"The disk is full.*: downloading"):
            fetch(server, tmp_path)
    kept = (tmp_path / "file.bin.part").stat().st_size
    assert 0 < kept <= 600_000
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == ("file.bin", f"bytes={kept}-")


def _fetch(url, path):
    download(url, path, sha256=SHA256, progress=False)


def test_two_processes_fetch_a_file_once(server, tmp_path):
    server.before_answer = lambda: time.sleep(0.2)
    children = [start(_fetch, f"{server.url}/file.bin", tmp_path / "file.bin") for _ in range(2)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(server.asked) == 1


# Archives.


def archive_of(path, members):
    """A gzipped tar archive: name -> content of a file, or ("link", target)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                member.type, member.linkname = tarfile.SYMTYPE, content[1]
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def test_an_archive_is_unpacked_whole(tmp_path):
    unpack(archive_of(tmp_path / "a.tar.gz", {"x/1": b"one", "x/y/2": b"two"}), tmp_path / "out")
    assert (tmp_path / "out" / "x" / "y" / "2").read_bytes() == b"two"


@pytest.mark.parametrize(
    "evil", [{"../evil": b"x"}, {"x/../../evil": b"x"}, {"link": ("link", "../../evil")}]
)
def test_a_member_outside_the_folder_is_refused_and_nothing_is_written(tmp_path, evil):
    archive = archive_of(tmp_path / "a.tar.gz", {"x/1": b"one"} | evil)
    with pytest.raises(StudyError, match=r"a\.tar\.gz is refused: .*outside"):
        unpack(archive, tmp_path / "in" / "out")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.tar.gz"]
    assert list((tmp_path / "in").iterdir()) == []


def test_a_cut_archive_is_damaged_and_leaves_nothing(tmp_path):
    archive = archive_of(tmp_path / "a.tar.gz", {"1": CONTENT})
    archive.write_bytes(archive.read_bytes()[:500_000])
    with pytest.raises(StudyError, match=r"a\.tar\.gz is damaged"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]
