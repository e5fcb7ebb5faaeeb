#!/usr/bin/env bash
# All that a GPU can tell of needle, in one command of 8 minutes: its timings, then the tests on it.
#
#   benchmarks/gpu.sh [results.json]              on this machine's GPU
#   benchmarks/gpu.sh --emulated [results.json]   on the tests' emulated one, without a limit of time:
#                                                 the timings mean nothing
#
# It needs a C++ compiler, Python, the driver and NVRTC; PyTorch to compare with (its wheels bring
# NVRTC). needle is built in build/gpu, beside the packages that python3 has;
# PYTHON=.venv/bin/python takes what `make test` has built. Where the package index is out of reach
# the sources run where they lie: the tests need pytest and hypothesis then, and a dozen that compare
# with cpu() or read checkpoints fail. The timings go to benchmarks/results/gpu-DATE-GPU.json where no
# other file is named. The last line says whether all tests passed.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/src:$PWD/tests:$PWD${PYTHONPATH:+:$PYTHONPATH}"
limit=480 timings=270 # seconds, of all of it and of the timings
failed=0
section() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }
tests() {
  local left=$((limit > SECONDS + 10 ? limit - SECONDS : 10))
  timeout --signal INT "$left" "$PYTHON" -m pytest -q -p no:cacheprovider "${parallel[@]}" "$@" ||
    failed=1
}

if [ -z "${PYTHON:-}" ]; then
  section "needle and its C++ core"
  python3 -m venv --system-site-packages build/gpu
  PYTHON=build/gpu/bin/python
  "$PYTHON" -m pip install --quiet --editable '.[cli,test]' ||
    echo "not built: the sources run where they lie, without the C++ core"
fi

options=()
packages=(tests/ops tests/autograd tests/nn tests/optim tests/models tests/init tests/data)
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
  limit=86400
  packages=(tests/optim tests/models) # the others would take minutes
fi

section "which GPU"
"$PYTHON" -c 'import needle as ndl; print(ndl.cuda().status()); ndl.cuda().context'

section "timings"
"$PYTHON" benchmarks/gpu.py --budget "$timings" "${options[@]}" ${1:+--json "$1"}

parallel=()
if "$PYTHON" -c 'import xdist' 2>/dev/null; then parallel=(-n auto --dist worksteal); fi

section "tests of the device, of jit on it, of the apps"
tests tests/cuda --ignore tests/cuda/test_compile.py --ignore tests/cuda/test_emulator.py \
  --ignore tests/cuda/test_resources.py

section "operators, checks of gradients, layers, optimizers, models on it"
tests "${packages[@]}" -k cuda
section "$([ "$failed" = 0 ] && echo "done, all tests passed" || echo "done, some tests failed")"
exit "$failed"
