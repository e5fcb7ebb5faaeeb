"""Pictures of runs."""

from __future__ import annotations

import numpy as np
import pytest
from run_folders import TITLE, make_run

pytest.importorskip("matplotlib")

import itertools

from matplotlib.figure import Figure

from needle.train import pictures
from needle.train.pictures.confusion import worst_confusions
from needle.train.records import Confusion, read_record

LONG = [f"a class with the long name {i}" for i in range(10)]


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, with all that is in them."""
    saved, write = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (saved.append(self), write(self, *a, **k))
    )
    return saved


def panels(figure):
    return {axes.get_title(): axes for axes in figure.get_axes()}


def test_a_report_shows_curves_best_rate_and_confusions(tmp_path, figures):
    folder = make_run(tmp_path, classes=LONG)
    path = pictures.save_report(folder)
    assert path == folder / "report.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    (figure,) = figures
    assert TITLE in figure.get_suptitle()
    loss, accuracy, matrix = (
        panels(figure)[t] for t in ("Loss", "Accuracy", "Confusions (validation images)")
    )
    labels = loss.get_legend_handles_labels()[1]
    assert labels == ["training", "validation", "best: 0.1495 at epoch 5"]
    assert (loss.get_yscale(), accuracy.get_yscale()) == ("log", "linear")
    ticks = [t.get_text() for t in loss.get_yticklabels()]
    assert {"0.1", "0.5", "1"} <= set(ticks)
    assert all("$" not in tick for tick in ticks)
    (rate,) = (axes for axes in figure.get_axes() if axes.get_ylabel() == "learning rate")
    assert rate.get_shared_x_axes().joined(rate, loss)
    names = [t.get_text() for t in matrix.get_yticklabels()]
    assert names[0] == "a class with th…"
    assert_no_overlap(figure, matrix.get_xticklabels())
    assert_no_overlap(figure, matrix.get_yticklabels())


def assert_no_overlap(figure, texts):
    boxes = [t.get_window_extent() for t in texts if t.get_text()]
    for one, next_ in itertools.pairwise(boxes):
        assert not one.overlaps(next_)


@pytest.mark.parametrize(
    "options",
    [
        dict(epochs=1, steps_an_epoch=4),
        dict(bad=(1, 2)),
        dict(bad=(0, 1, 2, 3, 4)),
        dict(metric="perplexity", classes=None),
        dict(metric=None, classes=200),
        dict(name="$a_{b} <b>" + "long" * 40, title="$x$ \x1b[0m\n" * 30, classes=2),
    ],
    ids=["one row", "NaN", "all NaN", "perplexity", "200 classes", "hostile names"],
)
def test_reports_of_unusual_runs(tmp_path, options):
    assert pictures.save_report(make_run(tmp_path, **options)).stat().st_size > 10_000


def test_a_run_without_rows(tmp_path, figures):
    folder = make_run(tmp_path, classes=None)
    (folder / "metrics.jsonl").unlink()
    pictures.save_report(folder)
    assert [t.get_text() for t in panels(figures[0])["Loss"].texts] == ["no rows yet"]


def test_a_long_run_is_thinned_and_smoothed(tmp_path, figures):
    pictures.save_report(make_run(tmp_path, epochs=10, steps_an_epoch=4000, classes=None))
    lines = panels(figures[0])["Loss"].lines
    assert max(len(line.get_xdata()) for line in lines) <= 1500
    assert len(lines) >= 4


def test_small_errors_have_a_colour_of_their_own(tmp_path, figures):
    matrix = np.array([[999, 1, 0], [0, 1000, 0], [0, 0, 1000]])
    confusion = Confusion(("a", "b", "c"), matrix, 5, "validation")
    pictures.save_confusion(tmp_path / "c.png", confusion, "title")
    right, errors = figures[0].get_axes()[0].images
    assert right.cmap.name == "Blues"
    shade = errors.to_rgba(errors.get_array())
    assert shade[0, 1, 0] - shade[0, 1, 1] > 0.5  # red, one error in a thousand
    assert shade[0, 2, 3] == 0  # nothing where there is none
    assert worst_confusions(confusion) == [("a", "b", 1)]


def test_runs_over_each_other(tmp_path, figures):
    runs = [
        make_run(tmp_path, "a"),
        make_run(tmp_path, "text", metric="perplexity", classes=None, title="plays"),
        make_run(tmp_path, "nan", bad=(0, 1, 2, 3, 4)),
    ]
    records = [read_record(run) for run in runs]
    pictures.save_comparison(tmp_path / "c.png", records, "seconds")
    (figure,) = figures
    assert list(panels(figure)) == ["Loss", "Accuracy", "Perplexity"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a", "text", "nan"]
    assert "plays" in figure.get_suptitle()
    pictures.save_comparison(tmp_path / "c.png", records * 10)
    assert figures[1].legends[0].get_texts()[-1].get_text() == "and 6 more"
    for wrong in ([], "step"), (records, "hour"):
        with pytest.raises(ValueError, match="save_comparison"):
            pictures.save_comparison(tmp_path / "d.png", *wrong)


def test_long_titles_are_broken_not_cut(tmp_path, figures):
    title = "CIFAR-10: 10,000 of the 50,000 training and 2,000 of the 10,000 test photographs"
    confusion = Confusion(("a", "b"), np.eye(2, dtype=int), 5, "validation")
    pictures.save_confusion(tmp_path / "c.png", confusion, title)
    (figure,) = figures
    assert figure.get_suptitle().replace("\n", " ") == title
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    pictures.save_confusion(tmp_path / "c.png", confusion, "$" * 999)
    assert figures[1].get_suptitle().count("\n") == 2


def test_mistakes(tmp_path, figures):
    images = np.random.RandomState(0).randn(7, 8, 8, 1)
    pictures.save_mistakes(tmp_path / "m.png", images, ["true: 3\npredicted: 8"] * 7, "title")
    assert len(figures[0].get_axes()) == 12
    for wrong in (images[..., 0], ["a"] * 7), (images, ["a"]), (images[:0], []):
        with pytest.raises(ValueError, match="save_mistakes"):
            pictures.save_mistakes(tmp_path / "m.png", *wrong, "title")
