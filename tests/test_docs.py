"""The documents: their links lead somewhere, and what they print is what the code prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    plain = (re.sub(r"\]\([^)]*\)", "]", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in LINK.findall(FENCE.sub("", document.read_text())):
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def assert_shows(shown: str, printed: str) -> None:
    """`shown` is `printed`, but for the lines that a line with an ellipsis stands for."""
    parts = [re.escape(part) for part in re.split(r"^ *…\n", shown, flags=re.MULTILINE)]
    assert re.fullmatch(r"(?:.*\n)*?".join(parts), printed), f"{shown}\n---- is not\n{printed}"


def examples(document: Path) -> Iterator[tuple[str, str | None]]:
    """A document's Python, and what each piece is said to print where that is said."""
    fences = [*FENCE.finditer(document.read_text())]
    for i, fence in enumerate(fences):
        if fence[1] != "python":
            continue
        following = fences[i + 1] if i + 1 < len(fences) else None
        follows = following and following[1] != "python" and following.start() == fence.end() + 1
        yield fence[2], following[2] if following and follows else None


@pytest.mark.parametrize(
    ("document", "count"), [("architecture.md", 9), ("trainer.md", 8), ("command-line.md", 1)]
)
def test_the_code_prints_what_is_shown(
    document: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if document != "architecture.md":  # its steps are those of tests that compile them
        monkeypatch.setenv("NEEDLE_JIT", "off")
    names: dict[str, object] = {}
    shown = 0
    for code, output in examples(ROOT / "docs" / document):
        printed = StringIO()
        with redirect_stdout(printed):
            exec(code, names)
        if output is not None:
            assert_shows(output, printed.getvalue())
            shown += 1
    assert shown == count
