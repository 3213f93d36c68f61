#!/usr/bin/env bash
# What one GPU makes of the training engine: tests, speed, NCCL, memory, a profile. Under 8 minutes;
# the results are written to benchmarks/gpu.md.
set -euo pipefail
cd "$(dirname "$0")/.."
exec uv run python -m benchmarks.gpu "$@"
