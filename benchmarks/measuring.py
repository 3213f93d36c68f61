"""What the benchmarks share: the machine's name, a process for one figure, Markdown tables."""

import argparse
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from studylib.pipeline.provenance import processor_name

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def processor() -> str:
    """The processor's name, and which vector instructions it has."""
    cpuinfo = Path("/proc/cpuinfo")
    words = cpuinfo.read_text(encoding="utf-8").split() if cpuinfo.exists() else []
    known = [name for name in INSTRUCTIONS if name in words]
    return f"{processor_name()} ({', '.join(known)})" if known else processor_name()


def options_of(description: str) -> argparse.Namespace:
    """The command line of the benchmarks on real speech: READERS ACTORS [--model best]."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("readers", type=Path)
    parser.add_argument("actors", type=Path)
    parser.add_argument("--model", default="best")
    return parser.parse_args()


def in_own_process(function: Callable, *arguments, start: str) -> object:
    """What `function(connection, *arguments)` sends, so that its memory is its own.

    `start` is "fork", which shares what is loaded, or "spawn", which begins with nothing.
    """
    context = multiprocessing.get_context(start)
    ours, theirs = context.Pipe()
    process = context.Process(target=function, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """A table whose first row is its head."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_sections(path: Path, head: str, titles: Iterable[str], new: dict[str, str]) -> None:
    """Write a report of sections in this order; those that are not new keep their old text."""
    old = path.read_text(encoding="utf-8").split("\n## ")[1:] if path.exists() else []
    texts = {title.strip(): body.strip() for title, _, body in (s.partition("\n") for s in old)}
    texts |= new
    sections = [f"## {title}\n\n{texts[title].strip()}\n" for title in titles if title in texts]
    path.write_text("\n".join([head.strip() + "\n", *sections]), encoding="utf-8")
