"""The same function on many jobs, in several processes, with the results in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread

from studylib.errors import StudyError


def in_order(function: Callable, jobs: Iterable, workers: int) -> Iterator:
    """Results in the order of the jobs, never more than a few of them ahead of the reader.

    Parameters
    ----------
    function : callable
        Of one argument; from a module, so that another process can import it.
    jobs : iterable
    workers : int
        Processes; 1 works in this one.

    Raises
    ------
    StudyError
        If a process dies. What the function raises is passed on.
    """
    if workers == 1:
        yield from map(function, jobs)
        return
    # Fresh processes (spawn): a forked one would inherit threads and locks of a notebook.
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent
    )
    waiting: deque = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(function, job))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise StudyError(
            "A helper process died, for lack of memory or because the script that started it "
            "lacks `if __name__ == '__main__':`; workers=1 does without helpers."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """A helper whose parent was killed would wait for its next job for ever."""

    def watch():
        parent_process().join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
