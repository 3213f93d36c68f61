"""What a worker of the grid does: run a stage's command, in a process that does not outlive it.

A worker that is killed cannot stop what it started, and its task is soon run again elsewhere: two
processes would then write the same files. So the command is started by one more process, this
module's `main`, which ends it when its own standard input ends: the system closes a dead process's
pipes, whatever it died of. Imports are few, as each worker and each task waits for them.
"""

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil

from studylib.errors import StudyError

LOGS = ".grid"  # git ignores it


_processes: set[subprocess.Popen] = set()  # of this worker


def run_task(name: str, command: str, root: str, digest: str, threads: int, topic: str) -> float:
    """On a worker: run a stage's command, and return its seconds."""
    from distributed import get_worker

    check_project(root, digest)
    get_worker().log_event(topic, name)
    environment = os.environ | {
        "PATH": python_first(),
        "PYTHONUNBUFFERED": "1",
        # Dask sets these to 1 for what runs inside its workers.
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
    }
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)  # meant for its workers alone
    started = time.monotonic()
    with (Path(root) / LOGS / f"{name}.log").open("ab") as log:
        head = f"# {datetime.now(UTC).isoformat(timespec='seconds')} {platform.node()}: {command}\n"
        log.write(head.encode())
        log.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", "studylib.pipeline.tasks", command],
            cwd=root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the grid, which then ends its tasks
        )
    _processes.add(process)
    try:
        status = process.wait()
    finally:
        _processes.discard(process)
        process.stdin.close()
    if status:
        raise StudyError(f"{name} failed with exit status {status}, see {LOGS}/{name}.log")
    return time.monotonic() - started


def stop_tasks() -> None:
    """On a worker: end the commands that it runs."""
    for process in list(_processes):
        process.stdin.close()


def check_project(root: str, digest: str) -> None:
    """On a worker: the project is here, with the parameters that the grid began with."""
    if not (Path(root) / "params.yaml").exists() or parameters_digest(Path(root)) != digest:
        raise StudyError(
            f"{platform.node()}: {root}/params.yaml is missing or is not what it was when the grid "
            "began: workers share the project's folder, and nobody changes it while they run"
        )


def parameters_digest(root: Path) -> str:
    return hashlib.sha256((root / "params.yaml").read_bytes()).hexdigest()


def python_first() -> str:
    """PATH with this interpreter's folder first: `python` is it, its environment active or not."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def main() -> int:
    """`-m studylib.pipeline.tasks COMMAND`: a shell command that ends when standard input does."""
    process = subprocess.Popen(sys.argv[1], shell=True, stdin=subprocess.DEVNULL)
    threading.Thread(target=_kill_at_end_of_input, args=(process.pid,), daemon=True).start()
    return process.wait()


def _kill_at_end_of_input(pid: int) -> None:
    os.read(0, 1)
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        stopped: list[psutil.Process] = []
        # Whoever is stopped starts no more. A notebook's kernel has a session of its own, so that
        # no signal to a group reaches all of them.
        while fresh := [p for p in [root, *root.children(recursive=True)] if p not in stopped]:
            for process in fresh:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
            stopped += fresh
        # The command itself at last: with it, `main` and so this thread end.
        for process in reversed(stopped):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


if __name__ == "__main__":
    sys.exit(main() % 256)
