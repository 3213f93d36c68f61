"""Which runs the batch-size report compares: the section `report.batch_size`, checked."""

from studylib.pipeline.params import Params, run_settings
from studylib.reports.settings import check_batch_size


def batch_size_runs(params: Params) -> None:
    """Refuse lists of runs that cannot be compared; see `check_batch_size`."""
    runs = {run: run_settings(params, run) for run in params.study.runs}
    check_batch_size(params.report.batch_size, runs)
