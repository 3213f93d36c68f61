"""Other processes for the tests: fresh ones, as a fork may inherit a lock that is never freed."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess

# A server that has imported what is needed, and nothing else, is forked for each process.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["pytest", "studylib.corpora.folder"])


def start(function: Callable, *arguments) -> BaseProcess:
    """Start a function of a module, with arguments that can be pickled."""
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process
