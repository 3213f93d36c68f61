"""Reading Parquet files, against pandas."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from studylib.files.tables import read_parquet

FRAME = pd.DataFrame(
    {
        "id": ["a", "b", None],
        "speaker": pd.Categorical(["x", "y", "x"]),
        "f0": [1.5, np.nan, -2.0],
        "start": np.arange(3),
        "target": [True, False, True],
    },
    index=[4, 7, 9],
)


def test_a_frame_comes_back_as_pandas_reads_it(tmp_path):
    FRAME.to_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "a.parquet"), FRAME)
    some = read_parquet(tmp_path / "a.parquet", ["target"])
    assert some["target"].tolist() == [True, False, True]


def test_what_cannot_be_read_is_an_error_that_callers_expect(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises((OSError, ValueError)):
        read_parquet(tmp_path / "a.parquet")
    with pytest.raises(OSError, match="none"):
        read_parquet(tmp_path / "none.parquet")


THREADS = """
import os, sys
from studylib.files.tables import read_parquet
before = len(os.listdir("/proc/self/task"))
read_parquet(sys.argv[1])
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="only Linux counts threads there")
def test_reading_starts_no_threads_that_could_outlive_the_interpreter(tmp_path):
    FRAME.to_parquet(tmp_path / "a.parquet")
    done = subprocess.run(
        [sys.executable, "-c", THREADS, str(tmp_path / "a.parquet")],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "0"
