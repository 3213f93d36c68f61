"""Helper programs, each of which makes one speaker at a time for the process that started it.

The package multiprocessing would import the user's script again in each helper, and hang where the
script lacks `if __name__ == "__main__"`. A helper ends at the end of its input: when the process
that started it closes the pipe, or dies.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from studylib.corpora.synthetic.settings import EmbeddedSettings
from studylib.corpora.synthetic.speakers import utterances_of
from studylib.corpora.writing import Utterance
from studylib.errors import StudyError

PROGRAM = "from studylib.corpora.synthetic.helpers import serve; serve()"
PACKAGE_PARENT = str(Path(__file__).parents[3])
AHEAD = 16  # speakers for each helper, which may wait in memory until they are written


def make_speakers(
    settings: EmbeddedSettings, jobs: Sequence[tuple[str, int]], workers: int
) -> Iterator[list[Utterance]]:
    """The utterances of each speaker, in order, made by several processes.

    Parameters
    ----------
    settings : EmbeddedSettings
    jobs : sequence of (str, int)
        Split and number of each speaker.
    workers : int
        Helper processes; 1 works in this process.

    Raises
    ------
    StudyError
        If a helper dies, or what the helper raises.
    """
    if workers == 1:
        yield from (utterances_of(settings, *job) for job in jobs)
        return
    with ExitStack() as stack:  # closes the helpers' pipes and waits until they end
        idle = SimpleQueue()
        for _ in range(workers):
            idle.put(stack.enter_context(_start()))
        pool = stack.enter_context(ThreadPoolExecutor(workers))  # each thread waits for a helper
        for first in range(0, len(jobs), AHEAD * workers):
            some = jobs[first : first + AHEAD * workers]
            yield from pool.map(partial(_make, idle, settings), some)


def _start() -> subprocess.Popen:
    path = os.pathsep.join(filter(None, [PACKAGE_PARENT, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-c", PROGRAM]
    pipe, environment = subprocess.PIPE, os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment)


def _make(idle: SimpleQueue, settings: EmbeddedSettings, job: tuple[str, int]) -> list[Utterance]:
    helper = idle.get()
    try:
        # Unbuffered: what is left in stdin's buffer would be written again when it is closed.
        os.write(helper.stdin.fileno(), pickle.dumps((settings, *job)))
        made = pickle.load(helper.stdout)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        raise StudyError("A helper process died, perhaps for lack of memory.") from None
    finally:
        idle.put(helper)
    if isinstance(made, StudyError):
        raise made
    return made


def serve() -> None:
    """Make the speakers that standard input asks for, until it ends."""
    try:
        while True:
            job = pickle.load(sys.stdin.buffer)
            try:
                made = utterances_of(*job)
            except StudyError as error:
                made = error
            pickle.dump(made, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        os._exit(0)  # without a traceback: the process that started this one is ending
