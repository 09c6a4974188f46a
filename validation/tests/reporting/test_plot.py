"""The plot has the panels and labels that its results ask for."""

from io import BytesIO
from itertools import pairwise

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from validation.judgement.verdict import Verdict
from validation.reporting.panels import arrange_panels
from validation.reporting.plot import draw_error_by_position, render_png
from validation.tests.reporting.conftest import MakeResult

ZERO = "fork: 0 everywhere (identical)"


def texts(artist: Axes | Figure) -> list[str]:
    """What is written on it."""
    found = artist.findobj(Text)
    return [text.get_text() for text in found if isinstance(text, Text) and text.get_text()]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("dtype", ["float32", "bfloat16", "float16"]),
        ("checkpoint", ["smollm2", "another"]),
        ("device", ["cpu", "cuda"]),
        ("base", ["v3.9.0", "v2.8.0"]),
    ],
)
def test_panels(make_result: MakeResult, field: str, values: list[str]) -> None:
    """What cannot be compared in one panel gets its own, which says what it is."""
    figure = draw_error_by_position([make_result(**{field: value}) for value in values])
    assert len(figure.axes) == len(values)
    for axes, value in zip(figure.axes, values, strict=True):
        assert value in axes.get_title(loc="left")


def test_log_axes_are_common(make_result: MakeResult) -> None:
    """Panels can be compared by eye."""
    results = [
        make_result("stock", Verdict.DRIFTS, context=1024),
        make_result("stock", Verdict.AT_FLOOR, dtype="bfloat16"),
    ]
    one, other = draw_error_by_position(results).axes
    assert (one.get_xscale(), one.get_yscale()) == ("log", "log")
    assert (one.get_xlim(), one.get_ylim()) == (other.get_xlim(), other.get_ylim())


def test_labels(make_result: MakeResult) -> None:
    """Every curve is named beside its end, and zero says that it is zero."""
    results = [make_result(), make_result("stock", Verdict.DRIFTS)]
    (axes,) = draw_error_by_position(results).axes
    assert {"stock", "floor", ZERO} <= set(texts(axes))
    assert axes.get_title(loc="left") == "float32, 4k tokens"


def test_labels_do_not_overlap(make_result: MakeResult) -> None:
    """Curves that run along the floor have their names below each other."""
    results = [make_result(name, Verdict.AT_FLOOR) for name in ("one", "two", "three")]
    (axes,) = draw_error_by_position(results).axes
    labels = {text.get_text(): text.get_position()[1] for text in axes.texts}
    heights = sorted(labels[name] for name in ("one", "two", "three", "floor"))
    assert min(high - low for low, high in pairwise(heights)) > 0.08


def test_everything_is_within_the_picture(make_result: MakeResult) -> None:
    """The longest names are shortened rather than cut off by the edge."""
    names = ["../a/rather/deep/folder/with/a/tree", "$x$", "<b>x"]
    results = [make_result(name, Verdict.AT_FLOOR, context=1024) for name in names]
    figure = draw_error_by_position([*results, make_result("stock", Verdict.DRIFTS)])
    render_png(figure)
    written = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]
    boxes = [text.get_window_extent() for text in written if text.get_visible()]
    width, height = figure.get_size_inches() * figure.dpi
    assert max(box.x1 for box in boxes) <= width
    assert min(box.y0 for box in boxes) >= 0
    assert max(box.y1 for box in boxes) <= height
    assert "…deep/folder/with/a/tree (1k)" in texts(figure)


def test_zero_is_drawn_below_the_axis_range(make_result: MakeResult) -> None:
    """A log axis has no zero: its line lies in a strip without ticks."""
    results = [make_result(), make_result("stock", Verdict.DRIFTS)]
    (axes,) = draw_error_by_position(results).axes
    in_axes = [line for line in axes.lines if line.get_transform() == axes.get_xaxis_transform()]
    zero = [line for line in in_axes if len(line.get_xdata(orig=True))]  # type: ignore[arg-type]
    assert len(zero) == 1
    ticks = axes.transLimits.transform([(0, np.log10(y)) for y in axes.get_yticks()])[:, 1]
    assert min(ticks) > max(np.asarray(zero[0].get_ydata()))


def test_only_largest_context(make_result: MakeResult) -> None:
    """Smaller contexts run along the largest one and are left out; a shorter subject says so."""
    results = [make_result(context=context) for context in (1024, 4096, 2048)]
    results.append(make_result("stock", Verdict.DRIFTS, context=1024))
    (panel,) = arrange_panels(results)
    assert [curve.label for curve in panel.curves] == ["floor", "fork", "stock (1k)"]
    assert panel.curves[1].positions[-1] > 2048


@pytest.mark.parametrize("verdict", [Verdict.REFUSED, Verdict.DIED])
def test_subject_without_errors(make_result: MakeResult, verdict: Verdict) -> None:
    """A subject that has no errors is not passed over in silence."""
    figure = draw_error_by_position([make_result(), make_result("stock", verdict)])
    assert f"stock: {verdict.name}, no errors to draw" in texts(figure)


def test_no_subject_has_errors(make_result: MakeResult) -> None:
    """A panel in which everything died is empty but for its notes."""
    figure = draw_error_by_position([make_result(verdict=Verdict.DIED)])
    assert len(figure.axes) == 1
    assert "fork: DIED, no errors to draw" in texts(figure)
    assert render_png(figure)


def test_not_finite(make_result: MakeResult) -> None:
    """A curve ends where the errors are not finite, and says so."""
    (panel,) = arrange_panels([make_result("tree", Verdict.NOT_FINITE)])
    _, curve = panel.curves
    assert curve.label == "tree (not finite)"
    assert 0 < curve.visible.sum() < len(curve.errors)
    assert not curve.is_zero


def test_nothing_finished() -> None:
    """Without results the picture says so."""
    figure = draw_error_by_position([])
    assert figure.axes == []
    assert "No case has finished." in texts(figure)
    assert render_png(figure)


def test_many_identical_subjects(make_result: MakeResult) -> None:
    """Names that have no room on the line are counted instead."""
    results = [make_result(f"../a-tree-with-a-long-name-{n}") for n in range(3)]
    assert "3 subjects: 0 everywhere (identical)" in texts(draw_error_by_position(results))


def test_png(make_result: MakeResult) -> None:
    """The file is a PNG of 1600 pixels' width, the same every time."""
    png = render_png(draw_error_by_position([make_result()]))
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert matplotlib.image.imread(BytesIO(png), format="png").shape[1] == 1600
    assert png == render_png(draw_error_by_position([make_result()]))


def test_text_is_readable_at_half_width(make_result: MakeResult) -> None:
    """At 800 pixels, which are 8.3 inches, no text has less than 9 points."""
    figure = draw_error_by_position([make_result(), make_result("stock", Verdict.REFUSED)])
    sizes = [float(text.get_fontsize()) for text in figure.findobj(Text) if isinstance(text, Text)]
    assert min(sizes) >= 9
    assert figure.get_size_inches()[0] == 8
