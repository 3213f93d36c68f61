"""Reading Parquet files, against pandas."""

import numpy as np
import pandas as pd
import pytest

from studylib.files.tables import read_parquet

FRAME = pd.DataFrame(
    {
        "id": ["a", "b", None],
        "speaker": pd.Categorical(["x", "y", "x"]),
        "f0": [1.5, np.nan, -2.0],
        "target": [True, False, True],
    },
    index=[4, 7, 9],
)


def test_a_frame_comes_back_as_pandas_reads_it(tmp_path):
    path = tmp_path / "a.parquet"
    FRAME.to_parquet(path)
    pd.testing.assert_frame_equal(read_parquet(path), FRAME)
    assert read_parquet(path, ["target"])["target"].tolist() == [True, False, True]
    path.write_bytes(b"PAR1 no")
    with pytest.raises((OSError, ValueError)):
        read_parquet(path)
