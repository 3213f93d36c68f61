"""One GPU, once: the tests that need it, speed, NCCL, memory against batch size, a profile.

    benchmarks/gpu.sh

writes gpu.md beside this file, section by section, so that what was measured stays when a later
section fails. Each section runs in a process of its own, within its own time; all of them together
take less than 8 minutes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.engine_memory import BATCH_SIZES, CHUNK, step_memory
from benchmarks.engine_runs import SPEAKERS, UTTERANCES, settings_of
from benchmarks.measuring import in_own_process, markdown, write_sections
from studylib.models.features import SAMPLE_RATE
from studylib.training.acceleration import set_arithmetic
from studylib.training.learner import build_learner
from studylib.training.loop import TrainingStep

OUT = Path(__file__).with_suffix(".md")
ROOT = Path(__file__).parent.parent
TRUNKS = ("compact_tdnn", "fast_resnet34", "ecapa_tdnn")
DEVICE = torch.device("cuda")
HEAD = """# One GPU, measured

Written by `benchmarks/gpu.sh`.
"""


def tests() -> str:
    """The tests marked `gpu`."""
    return _shown(_run(["-m", "pytest", "-m", "gpu", "--no-header"]))


def speed() -> str:
    """Crops a second of the engine and of the plain loop, by trunk, number format and compiler."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "engine.md"
        arguments = ["--device", "cuda", "--only", "speed", "--repeats", "3", "--steps", "20"]
        arguments += ["--precision", "float32", "bfloat16", "--compile", "--out", str(table)]
        done = _run(["-m", "benchmarks.engine", *arguments, "--trunks", *TRUNKS])
        return table.read_text("utf-8") if table.exists() else _shown(done)


def nccl() -> str:
    """What `training.distributed` asks of NCCL, with one process: the same as without it."""
    sent = in_own_process(_nccl, start="spawn")
    rows = [("operation", "largest difference from one process", "microseconds")]
    return markdown([*rows, *sent])


def _nccl(connection) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    dist.init_process_group("nccl", rank=0, world_size=1)
    generator = torch.Generator(DEVICE).manual_seed(0)
    gradients = torch.randn(1_437_078, device=DEVICE, generator=generator)
    reduced = gradients.clone()
    features = torch.randn(64, 32, 20, 50, device=DEVICE, generator=generator)
    plain = nn.BatchNorm2d(32).to(DEVICE)
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm2d(32)).to(DEVICE)
    inputs = [features.clone().requires_grad_() for _ in range(2)]
    outputs = [norm(x) for norm, x in zip((plain, synchronised), inputs, strict=True)]
    for output in outputs:
        (output * features.flip(0)).sum().backward()
    dist.all_reduce(reduced)
    differences = [
        ("all_reduce of fast_resnet34's gradients", reduced - gradients),
        ("SyncBatchNorm, forward", outputs[0] - outputs[1]),
        ("SyncBatchNorm, gradient", inputs[0].grad - inputs[1].grad),
    ]
    microseconds = [
        _microseconds(lambda: dist.all_reduce(reduced)),
        _microseconds(lambda: synchronised(features)),
        None,
    ]
    connection.send(
        [
            (name, f"{difference.abs().max().item():.1e}", f"{time_:.0f}" if time_ else "")
            for (name, difference), time_ in zip(differences, microseconds, strict=True)
        ]
    )
    dist.destroy_process_group()


def _microseconds(operation, repeats: int = 50) -> float:
    operation()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        operation()
    torch.cuda.synchronize()
    return 1e6 * (time.perf_counter() - started) / repeats


def memory() -> str:
    """MiB of tensors of one fast_resnet34 step, against crops a batch, plain and in chunks."""
    rows = [("step", *(f"{size:,} crops" for size in BATCH_SIZES))]
    for name, chunk in (("plain", 0), (f"chunks of {CHUNK}", CHUNK)):
        cells = []
        for batch in BATCH_SIZES:
            arguments = (DEVICE, "fast_resnet34", batch, chunk)
            peak = in_own_process(step_memory, *arguments, start="spawn")
            cells.append("does not fit" if peak is None else f"{peak[1]:,.0f}")
        rows.append((name, *cells))
    return markdown(rows)


def kernels() -> str:
    """Where the time of one fast_resnet34 step goes, and how many kernels it launches."""
    texts = []
    for precision in ("float32", "bfloat16"):
        settings = settings_of("fast_resnet34", DEVICE, precision=precision)
        set_arithmetic(settings.train, DEVICE)
        step = TrainingStep(settings, build_learner(settings, SPEAKERS, 0, DEVICE), 0, DEVICE)
        shape = SPEAKERS * UTTERANCES, 2 * SAMPLE_RATE
        crops = torch.randint(-3000, 3000, shape, dtype=torch.int16, device=DEVICE)
        batch = crops, torch.arange(SPEAKERS, device=DEVICE), 0, 0.0
        for _ in range(5):
            step(*batch)
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
            step(*batch)
            torch.cuda.synchronize()
        events = profiled.key_averages()
        launches = sum(e.count for e in events if "LaunchKernel" in e.key)
        on_device = sum(e.self_device_time_total for e in events) / 1e3
        slowest = sorted(events, key=lambda e: -e.self_device_time_total)[:12]
        rows = [("on the device", "ms", "calls")]
        rows += [
            (f"`{e.key[:70]}`", f"{e.self_device_time_total / 1e3:.2f}", str(e.count))
            for e in slowest
        ]
        head = f"{precision}: {launches} kernel launches, {on_device:.1f} ms on the device."
        texts.append(f"{head}\n\n{markdown(rows)}")
    return "\n\n".join(texts)


SECTIONS = {
    "Tests": (tests, 120),
    "Speed": (speed, 240),
    "NCCL": (nccl, 40),
    "Memory": (memory, 60),
    "Kernels": (kernels, 40),
}


def _run(arguments: list[str]) -> subprocess.CompletedProcess:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _shown(done: subprocess.CompletedProcess) -> str:
    lines = (done.stdout + done.stderr).strip().splitlines()[-30:]
    return "\n".join(["```", *lines, f"exit status {done.returncode}", "```"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--section", choices=SECTIONS, help="this one, here; all by default")
    chosen = parser.parse_args().section
    if chosen:
        print(SECTIONS[chosen][0]())
        return
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.sh: torch sees no GPU here")
    machine = f"{torch.cuda.get_device_name()}; torch {torch.__version__}"
    for title, (_, seconds) in SECTIONS.items():
        command = [sys.executable, "-m", "benchmarks.gpu", "--section", title]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds
            )
            text = done.stdout if done.returncode == 0 else _shown(done)
        except subprocess.TimeoutExpired:
            text = f"not finished within {seconds} s"
        print(f"## {title}\n\n{text}", flush=True)
        write_sections(OUT, HEAD, SECTIONS, {title: f"On: {machine}.\n\n{text.strip()}"})


if __name__ == "__main__":
    main()
