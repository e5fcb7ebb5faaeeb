#!/usr/bin/env bash
# All that a GPU can tell of needle, in one command: the tests on it, then its timings.
#
#   benchmarks/gpu.sh [results.json]              on this machine's GPU
#   benchmarks/gpu.sh --emulated [results.json]   on the tests' emulated one: the timings mean nothing
#
# It needs Python with NumPy, pytest and hypothesis, the driver and NVRTC; PyTorch to compare with.
# Nothing is installed: the sources run where they lie. Timings need no more; of the tests, a dozen
# compare with cpu() or read checkpoints, and fail without needle's C++ core and safetensors:
# PYTHON=.venv/bin/python takes those that `make test` has installed. The timings go to
# benchmarks/results/gpu-DATE-GPU.json where no other file is named.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/src:$PWD/tests:$PWD${PYTHONPATH:+:$PYTHONPATH}"
PYTHON=${PYTHON:-python3}
section() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }
tests() { "$PYTHON" -m pytest -q -p no:cacheprovider "$@"; }

options=()
rooms=(tests/ops tests/autograd tests/nn tests/optim tests/models tests/init tests/data)
if [ "${1:-}" = --emulated ]; then
  shift
  section "the emulated GPU"
  NEEDLE_CUDA_LIBRARIES=$("$PYTHON" -c 'from pathlib import Path; from cuda.emulator import build
print(build(Path("build/emulator").resolve()))')
  scratch=$(mktemp -d)
  trap 'rm -r "$scratch"' EXIT
  mkdir "$scratch/cache" "$scratch/kernels"
  export NEEDLE_CUDA_LIBRARIES NEEDLE_CACHE="$scratch/cache" HYPOTHESIS_PROFILE=short
  export NEEDLE_EMULATOR_KERNELS="$scratch/kernels"
  options=(--small)
  rooms=(tests/optim tests/models) # the others would take minutes
fi

section "which GPU"
"$PYTHON" -c 'import needle as ndl; print(ndl.cuda().status()); ndl.cuda().context'

section "timings"
"$PYTHON" benchmarks/gpu.py "${options[@]}" ${1:+--json "$1"}

section "tests of the device, of jit on it, of the apps"
tests tests/cuda --ignore tests/cuda/test_compile.py --ignore tests/cuda/test_emulator.py \
  --ignore tests/cuda/test_resources.py

section "operators, checks of gradients, layers, optimizers, models on it"
tests "${rooms[@]}" -k cuda
section "done"
