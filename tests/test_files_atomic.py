"""Folders and files are replaced at one instant: a reader finds the old or the new."""

import sys
import threading
from pathlib import Path

import pytest

from studylib.files.atomic import atomic_file, atomic_folder


def replace_often(folder: Path) -> None:
    for number in range(300):
        with atomic_folder(folder) as partial:
            (partial / "number").write_text(str(number))
        with atomic_file(folder.with_name("file")) as partial:
            partial.write_text(f"{number} " * 1000)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it takes two renames")
def test_a_reader_never_misses_what_is_replaced(tmp_path):
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.write_text("0 " * 1000)
    writer = threading.Thread(target=replace_often, args=(folder,))
    writer.start()
    reads = 0
    while writer.is_alive():
        assert folder.is_dir()
        words = file.read_text().split()
        assert words == [words[0]] * 1000
        reads += 1
    assert reads
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}
    assert (folder / "number").read_text() == "299"
