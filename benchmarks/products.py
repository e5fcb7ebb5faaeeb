"""Float32 matrix products against PyTorch, JAX and the machine's measured peak.

    python benchmarks/products.py                   # the shapes of the models
    python benchmarks/products.py --sweep [PNG]     # and 200 random shapes, with a plot

Needle's products are eager, on operands as the models have them: weight gradients have a
transposed A, input gradients a transposed B. A contender runs a batch of shapes in one go, then
the next one has its turn, so that what disturbs the machine hits all of them alike; the fastest of
a shape's blocks counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from harness import SETTLE_SECONDS, jax_or_none, torch_or_none
from rows import Row, Target, print_rows, summary

import needle as ndl
from needle.native import core

SQUARES, MODELS, NARROW = 0.95, 0.88, 0.80  # targets, as parts of the peak
NARROW_SIDE = 128
# (batch, in, out) of the linear layers of the models; each is three products a step.
LAYERS = (
    (100, 784, 100), (256, 784, 1024), (256, 1024, 1024), (640, 100, 10_000), (640, 100, 400),
    (1120, 512, 2048), (768, 128, 384), (768, 128, 128), (768, 128, 512), (768, 512, 128),
    (512, 768, 2304), (512, 768, 768), (512, 768, 3072), (512, 3072, 768),
)  # fmt: skip
SIDES = (1024, 2048)
SWEEP = 200
MAX_SIDE, MAX_WORK = 4096, 1 << 30  # of the random shapes; the work in multiply-adds
BATCH = 10
BLOCK_SECONDS = 0.004
ROUNDS = 3


@dataclass(frozen=True)
class Shape:
    """C (m, n) = A (m, k) B (k, n), with either operand stored transposed."""

    m: int
    k: int
    n: int
    a_transposed: bool = False
    b_transposed: bool = False

    @property
    def work(self) -> int:
        return self.m * self.k * self.n

    @property
    def target(self) -> float:
        """The part of the peak that it should reach."""
        if min(self.m, self.k, self.n) >= min(SIDES):
            return SQUARES
        return NARROW if min(self.k, self.n) <= NARROW_SIDE else MODELS

    def __str__(self) -> str:
        marks = "ᵀ" * self.a_transposed, "ᵀ" * self.b_transposed
        return f"{self.m}×{self.k}{marks[0]} · {self.k}×{self.n}{marks[1]}"


@dataclass
class Times:
    """The fastest seconds of each contender, and the peak in FLOP/s, for one shape."""

    shape: Shape
    seconds: dict[str, float]
    peak: float = 0.0

    def rate(self, name: str) -> float:
        return 2 * self.shape.work / self.seconds[name]

    @property
    def ratio(self) -> float:
        """Needle's time over the fastest peer's."""
        peers = [t for name, t in self.seconds.items() if name != "needle"]
        return self.seconds["needle"] / min(peers) if peers else float("nan")


def model_shapes() -> list[Shape]:
    """The squares, and the products of forward and backward of each layer, without duplicates."""
    shapes = [Shape(side, side, side) for side in SIDES]
    for batch, fan_in, fan_out in LAYERS:
        shapes += [
            Shape(batch, fan_in, fan_out),
            Shape(fan_in, batch, fan_out, a_transposed=True),
            Shape(batch, fan_out, fan_in, b_transposed=True),
        ]
    return list(dict.fromkeys(shapes))


def random_shapes(count: int = SWEEP, seed: int = 0) -> list[Shape]:
    """Log-uniform sides; a tenth of the shapes has a vector on the left, a tenth on the right."""
    rng = np.random.default_rng(seed)
    shapes: list[Shape] = []
    while len(shapes) < count:
        m, k, n = (int(x) for x in np.exp(rng.uniform(0, np.log(MAX_SIDE), 3)).round())
        vector = rng.random()
        m, n = 1 if vector < 0.1 else m, 1 if vector > 0.9 else n
        shape = Shape(m, k, n, bool(rng.random() < 0.5), bool(rng.random() < 0.5))
        if shape.work <= MAX_WORK:
            shapes.append(shape)
    return shapes


# ---- Contenders -------------------------------------------------------------------------------

Multiply = Callable[[], object]
Contender = Callable[[Shape, np.ndarray, np.ndarray], Multiply]


def contenders() -> dict[str, Contender]:
    """What makes the product of two matrices, by library; the matrices are stored as they are."""

    def needle(shape: Shape, a: np.ndarray, b: np.ndarray) -> Multiply:
        x, y = ndl.array_api.array(a), ndl.array_api.array(b)
        x, y = x.T if shape.a_transposed else x, y.T if shape.b_transposed else y
        return lambda: x @ y

    found: dict[str, Contender] = {"needle": needle}
    if (torch := torch_or_none()) is not None:

        def pytorch(shape: Shape, a: np.ndarray, b: np.ndarray) -> Multiply:
            x, y = torch.from_numpy(a), torch.from_numpy(b)
            x, y = x.T if shape.a_transposed else x, y.T if shape.b_transposed else y
            return lambda: x @ y

        found["PyTorch"] = pytorch
    if (jax := jax_or_none()) is not None:

        def jax_product(shape: Shape, a: np.ndarray, b: np.ndarray) -> Multiply:
            x, y = jax.numpy.asarray(a), jax.numpy.asarray(b)
            sides = (0 if shape.a_transposed else 1,), (1 if shape.b_transposed else 0,)
            function = jax.jit(lambda x, y: jax.lax.dot_general(x, y, (sides, ((), ()))))
            return lambda: function(x, y).block_until_ready()

        found["JAX"] = jax_product
    return found


def operands(shape: Shape, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The matrices as they are stored."""
    a = (shape.k, shape.m) if shape.a_transposed else (shape.m, shape.k)
    b = (shape.n, shape.k) if shape.b_transposed else (shape.k, shape.n)
    return rng.standard_normal(a, dtype=np.float32), rng.standard_normal(b, dtype=np.float32)


# ---- Timing -----------------------------------------------------------------------------------


def timed(shapes: Sequence[Shape], rounds: int = ROUNDS) -> list[Times]:
    """Every contender's times for every shape; results that differ end the program."""
    makers = contenders()
    results: list[Times] = []
    for batch in _batches(shapes):
        times, calls = [Times(shape, {}) for shape in batch], _functions(makers, batch)
        for _ in range(rounds):
            for name, functions in calls.items():
                time.sleep(SETTLE_SECONDS)
                for entry, function in zip(times, functions, strict=True):
                    seconds = _fastest(function)
                    entry.seconds[name] = min(seconds, entry.seconds.get(name, seconds))
                    if name == "needle":  # next to the product, because the clock changes
                        entry.peak = max(entry.peak, core.peak_flops(0.001))
        results += times
    return results


def _batches(shapes: Sequence[Shape]) -> Iterator[Sequence[Shape]]:
    for start in range(0, len(shapes), BATCH):
        yield shapes[start : start + BATCH]


def _functions(makers: dict[str, Contender], shapes: Sequence[Shape]) -> dict[str, list[Multiply]]:
    """The products of each contender, after a check against NumPy in double precision."""
    rng = np.random.default_rng(0)
    found: dict[str, list[Multiply]] = {name: [] for name in makers}
    for shape in shapes:
        a, b = operands(shape, rng)
        x, y = a.T if shape.a_transposed else a, b.T if shape.b_transposed else b
        expected = x.astype(np.float64) @ y.astype(np.float64)
        for name, make in makers.items():
            found[name].append(make(shape, a, b))
            result = found[name][-1]()
            got = result.numpy() if name == "needle" else np.asarray(result)  # type: ignore[attr-defined]
            # The terms are standard normal, so that their sum has a scale of sqrt(k).
            error = float(np.max(np.abs(got - expected)))
            if not error <= 2.0**-24 * (shape.k + 8) * 8:
                raise SystemExit(f"{name}, {shape}: off by {error:.2e}")
    return found


def _fastest(function: Multiply) -> float:
    """The seconds of a call, from the faster one of two blocks after a warm one."""
    function()
    start = time.perf_counter()
    function()
    calls = max(1, round(BLOCK_SECONDS / max(time.perf_counter() - start, 1e-7)))
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        best = min(best, (time.perf_counter() - start) / calls)
    return best


# ---- Results ----------------------------------------------------------------------------------


def as_row(times: Times) -> Row:
    """A line of the report: GFLOP/s, against the peers and the peak."""
    rates = {name: times.rate(name) / 1e9 for name in times.seconds}
    needle = rates.pop("needle")
    targets = (Target(">=", times.shape.target, "roofline"), Target(">=", 1.0))
    return Row("products", str(times.shape), needle, "GFLOP/s", rates, times.peak / 1e9, targets)


def rows(quick: bool = False) -> list[Row]:
    """The products of the models; with `quick` only the squares and the first layers."""
    shapes = model_shapes()
    return [as_row(times) for times in timed(shapes[:8] if quick else shapes)]


def plot(results: Sequence[Times], path: str) -> None:
    """Write a picture of needle's time over the fastest peer's for each shape."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    axes.scatter([t.shape.work for t in results], [t.ratio for t in results], s=12)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set(xscale="log", yscale="log")
    axes.set(xlabel="multiply-adds", ylabel="needle's time / fastest peer's")
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    """Print the products of the models, or the worst of random shapes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sweep", nargs="?", const="", metavar="PNG", help="random shapes")
    parser.add_argument("--count", type=int, default=SWEEP, help="how many of them")
    parser.add_argument("--quick", action="store_true", help="a few shapes of the models")
    options = parser.parse_args()
    if core is None:
        raise SystemExit("needle was installed without its C++ core; nothing to measure")
    if options.sweep is None:
        found = rows(options.quick)
        print_rows(found)
        print(summary(found))
        return
    results = sorted(timed(random_shapes(options.count)), key=lambda t: -t.ratio)
    slower = sum(times.ratio > 1 for times in results)
    print_rows([as_row(times) for times in results[:20]])
    median = float(np.median([times.ratio for times in results]))
    print(
        f"{slower} of {len(results)} shapes are slower than the fastest peer; median {median:.2f}"
    )
    if options.sweep:
        plot(results, options.sweep)


if __name__ == "__main__":
    main()
