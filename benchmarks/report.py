"""Everything that is measured, as one report: Markdown, JSON and pictures in a folder.

    python benchmarks/report.py [--quick] [--simd avx2|avx512] [--out FOLDER]
                                [--sections steps,memory,…]

The folder is benchmarks/results/<instruction set> by default. A section is a module beside this
one with `rows(quick) -> list[Row]`, and `draw(rows, folder) -> list of pictures` if it has any of
its own. Each runs in a process of its own and leaves FOLDER/<section>.json. The report is made of
all sections that the folder holds, so one of them can be measured again alone; each says when and
on what it was measured. `--simd` limits needle and its peers to an instruction set alike.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rows import HEADERS, Row, Target, Unavailable, summary

SECTIONS = {
    "steps": "Training steps",
    "products": "Matrix products",
    "loops": "Generated loops",
    "memory": "Peak memory of training steps",
    "overhead": "Overhead of small operations",
    "growth": "Growth",
}
# What limits PyTorch (its kernels, oneDNN, MKL) and XLA to the instructions that needle uses.
LIMITS = {
    "avx2": {
        "NEEDLE_SIMD": "avx2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    },
    "avx512": {"NEEDLE_SIMD": "avx512"},
}
RESULTS = Path(__file__).with_name("results")
Section = dict[str, Any]


# ---- a section ----------------------------------------------------------------------------------


def run_section(name: str, quick: bool, folder: Path) -> Section:
    """Measure a section in this process; what it lacks or where it failed is part of the result."""
    start = time.perf_counter()
    section: Section = {"section": name, "rows": [], "pictures": [], "quick": quick}
    try:
        module = importlib.import_module(name)
        rows = module.rows(quick)
        section["rows"] = [row.as_json() for row in rows]
        if hasattr(module, "draw"):
            section["pictures"] = [Path(p).name for p in module.draw(rows, folder)]
        section["pictures"] += draw_targets(name, rows, folder)
    except Unavailable as missing:
        section["missing"] = str(missing)
    except (Exception, SystemExit) as error:  # the other sections are still worth having
        section["failed"] = f"{type(error).__name__}: {error}"
    section["seconds"] = round(time.perf_counter() - start, 1)
    section["machine"] = machine()
    return section


def machine() -> dict[str, Any]:
    """The processor, what it can do as measured now, and the versions of what runs on it."""
    import roofline

    import needle as ndl
    from needle.native import core

    versions = {"python": platform.python_version(), "needle": ndl.__version__}
    for package in ("numpy", "torch", "jax"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _processor("model name"),
        "flags": [f for f in _processor("flags").split() if f.startswith(("avx", "amx", "fma"))],
        "threads": ndl.get_num_threads(),
        "instruction set": core.simd_level() if core else "none",
        "peak GFLOP/s": max(roofline.peak_flops() for _ in range(5)) / 1e9,
        "copy GB/s": roofline.copier(2**28)() / 1e9,
        "versions": versions,
    }


def _processor(key: str) -> str:
    """A line of /proc/cpuinfo, about the first processor."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith(key):
            return line.split(":", 1)[1].strip()
    return platform.processor()


# ---- the report ---------------------------------------------------------------------------------


def row_of(values: dict[str, Any]) -> Row:
    """The row that `Row.as_json` described."""
    targets = tuple(Target(t["direction"], t["bound"], t["over"]) for t in values["targets"])
    kept = ("section", "name", "value", "unit", "peers", "roofline", "note", "bigger_is_better")
    return Row(**{key: values[key] for key in kept}, targets=targets)


def markdown(sections: Sequence[Section]) -> str:
    """The report of these sections."""
    every = [row_of(values) for section in sections for values in section["rows"]]
    lines = [
        f"# Measured with {sections[0]['machine']['instruction set']}",
        "",
        f"{summary(every)}. Written by `python benchmarks/report.py`. The ratios are needle's "
        "value over the fastest peer's and over the roofline: below 1 needle is faster where the "
        "unit is a time or a size, above 1 where it is a rate. The roofline is what the measured "
        "peak and copy of the machine allow. The peers' other values are in `report.json`.",
        "",
        *_missed(every),
    ]
    for section in sections:
        lines += _section(section)
    return "\n".join(lines)


def _missed(rows: Sequence[Row]) -> list[str]:
    """A list of the targets that were missed, the worst by its part of the target first."""
    missed = []
    for row in rows:
        for target in row.targets:
            found = row.measured(target)
            if found is not None and not row.met(target):
                off = found / target.bound if target.direction == "<=" else target.bound / found
                missed.append((off, row, target, found))
    missed.sort(key=lambda entry: -entry[0])
    return [
        "## Missed targets",
        "",
        *(
            f"- {SECTIONS[row.section]}, {row.name}: {found:.3g} × {target.over}, target "
            f"{target.direction} {target.bound:g}"
            for _, row, target, found in missed
        ),
        "",
    ]


def _section(section: Section) -> list[str]:
    rows = [row_of(values) for values in section["rows"]]
    host = section["machine"]
    lines = [
        f"## {SECTIONS[section['section']]}",
        "",
        f"{host['date'][:10]}, {host['processor']}, {host['threads']} threads, "
        f"{host['instruction set']}: peak {host['peak GFLOP/s']:.0f} GFLOP/s, copy "
        f"{host['copy GB/s']:.0f} GB/s; "
        + ", ".join(f"{name} {version}" for name, version in host["versions"].items())
        + f". {'A quick run' if section['quick'] else 'The run'} took {section['seconds']:.0f} s.",
        "",
    ]
    for key, meaning in (("missing", "Not measured"), ("failed", "Failed")):
        if key in section:
            lines += [f"{meaning}: {section[key]}", ""]
    if rows:
        lines += [_line(HEADERS), "|" + "---|" * len(HEADERS)]
        lines += [*(_line(row.cells()) for row in rows), ""]
    return lines + [f"![{Path(name).stem}]({name})\n" for name in section["pictures"]]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def draw_targets(name: str, rows: Sequence[Row], folder: Path) -> list[str]:
    """A picture of the section's targets: what was measured over what was wanted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = [
        (row.name, t, row.measured(t)) for row in rows for t in row.targets if row.measured(t)
    ][:40]
    if not found:
        return []
    figure, axes = pyplot.subplots(figsize=(9, 0.8 + 0.3 * len(found)), layout="constrained")
    parts = [value / t.bound if t.direction == "<=" else t.bound / value for _, t, value in found]
    colours = ["tab:green" if part <= 1 else "tab:red" for part in parts]
    labels = [f"{title} ({t.direction} {t.bound:g} × {t.over})" for title, t, _ in found]
    axes.barh(range(len(found)), parts, color=colours)
    axes.set_yticks(range(len(found)), labels, fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("measured over target (left of the line: met)")
    figure.savefig(folder / f"{name}.png", dpi=100)
    pyplot.close(figure)
    return [f"{name}.png"]


def write(folder: Path) -> str:
    """Make report.md and report.json of the sections that the folder holds."""
    files = [folder / f"{name}.json" for name in SECTIONS]
    sections = [json.loads(file.read_text()) for file in files if file.exists()]
    text = markdown(sections)
    (folder / "report.md").write_text(text + "\n")
    (folder / "report.json").write_text(json.dumps(sections, indent=1) + "\n")
    return text


# ---- command line -------------------------------------------------------------------------------


def main() -> None:
    """Measure the sections that are asked for, each in a process of its own, and print it all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help="with commas in between")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and points")
    parser.add_argument("--simd", choices=LIMITS, help="limit needle and its peers to it")
    parser.add_argument("--out", type=Path, help="the folder of the report")
    parser.add_argument("--one", choices=SECTIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.update(LIMITS.get(options.simd, {}))
    if options.one:
        section = run_section(options.one, options.quick, options.out)
        (options.out / f"{options.one}.json").write_text(json.dumps(section, indent=1) + "\n")
        return
    names = options.sections.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"--sections: unknown {unknown}; known are {list(SECTIONS)}")
    folder = options.out or RESULTS / (options.simd or _simd_level())
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(f"measuring {name} …", file=sys.stderr)
        command = [sys.executable, __file__, "--one", name, "--out", str(folder)]
        subprocess.run([*command, *(["--quick"] * options.quick)], check=True)
    print(write(folder))
    sections = json.loads((folder / "report.json").read_text())
    if failed := [s["section"] for s in sections if "failed" in s]:
        sys.exit(f"failed: {', '.join(failed)}")


def _simd_level() -> str:
    """The instruction set that needle uses here, by its name in `LIMITS` where it has one."""
    from needle.native import core

    return str(core.simd_level()) if core else "none"


if __name__ == "__main__":
    main()
