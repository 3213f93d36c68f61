"""Reading Parquet files without threads."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pyarrow.parquet import ParquetFile


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A Parquet file, or some of its columns, as a frame: what `pandas.read_parquet` gives.

    pandas passes pyarrow a Python file, which pyarrow's threads may still hold while the
    interpreter ends: the finished process then aborts ("terminate called without an active
    exception") or hangs (Apache Arrow, issues 34314 and 50482).

    Raises
    ------
    OSError, ValueError
        If the file is missing, or is no whole Parquet file.
    """
    with ParquetFile(path, pre_buffer=False) as file:
        return file.read(columns, use_threads=False).to_pandas(use_threads=False)
