"""Draws the matrix of faults and contexts: how far above the floor each fault's error is."""

from itertools import groupby

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from validation.judgement.kills import Outcome
from validation.reporting.fault_content import by_fault, cell
from validation.reporting.fault_records import FaultRecord
from validation.reporting.wording import tokens

_ROW_INCHES = 0.17
_COLUMN_INCHES = 0.72
_LABEL_INCHES = 2.3
_FAMILY_INCHES = 1.5
_TOP_INCHES = 1.0
_FOOT_INCHES = 0.8
_DPI = 160
_TEXT_POINTS = 7.5
_INK = "#333333"
_HIDDEN = "#f2f2f2"
_MISSED = "#D55E00"
# Dark to light, also in grey and to every kind of colour blindness.
_COLOURS = mpl.colormaps["cividis"]


def draw_fault_matrix(records: list[FaultRecord]) -> Figure:
    """One panel for every dtype, side by side: rows are faults, columns contexts."""
    dtypes = list(dict.fromkeys(record.dtype for record in records))
    groups = by_fault(records)
    contexts = len({record.context for record in records})
    columns = max(contexts, 2) * len(dtypes)
    width = _LABEL_INCHES + _COLUMN_INCHES * columns + 0.3 * len(dtypes) + _FAMILY_INCHES
    height = _TOP_INCHES + _FOOT_INCHES + _ROW_INCHES * len(groups)
    norm = Normalize(0, max(1.0, _largest(records)))
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": _TEXT_POINTS}):
        figure = Figure(figsize=(width, height), dpi=_DPI)
        grid = figure.add_gridspec(
            1,
            len(dtypes),
            left=_LABEL_INCHES / width,
            right=1 - _FAMILY_INCHES / width,
            bottom=_FOOT_INCHES / height,
            top=1 - _TOP_INCHES / height,
            wspace=0.1,
        )
        title = "Error of planted faults, as a multiple of the floor's"
        figure.text(
            0.1 / width, 1 - 0.25 / height, title, fontsize=_TEXT_POINTS + 3, va="top", color=_INK
        )
        for index, dtype in enumerate(dtypes):
            axes = figure.add_subplot(grid[0, index])
            here = [record for record in records if record.dtype == dtype]
            image = _draw_panel(axes, here, dtype, norm)
            if index == 0:
                axes.set_yticks(range(len(groups)), list(groups))
            else:
                axes.set_yticks([])
        _label_families(axes, [group[0].family for group in groups.values()])
        bar = figure.add_axes((_LABEL_INCHES / width, 0.45 / height, 1.6 / width, 0.12 / height))
        figure.colorbar(image, cax=bar, orientation="horizontal")
        bar.set_xlabel("log10 of the multiple", color=_INK, labelpad=1)
    return figure


def _largest(records: list[FaultRecord]) -> float:
    return max((_power(record) for record in records if _power(record) > 0), default=1.0)


def _power(record: FaultRecord) -> float:
    """log10 of the ratio; NaN where there is none."""
    return float(np.log10(record.parity_ratio)) if record.parity_ratio else float("nan")


def _draw_panel(axes: Axes, records: list[FaultRecord], dtype: str, norm: Normalize) -> AxesImage:
    rows = list(by_fault(records).values())
    powers: NDArray[np.float64] = np.array([[_power(record) for record in row] for row in rows])
    axes.set_facecolor(_HIDDEN)
    image = axes.imshow(powers, aspect="auto", cmap=_COLOURS, norm=norm)
    for y, row in enumerate(rows):
        for x, record in enumerate(row):
            _draw_cell(axes, x, y, record, norm)
    labels = [tokens(record.context) for record in rows[0]]
    axes.set_xticks(range(len(labels)), labels)
    axes.tick_params(length=0, colors=_INK, labeltop=True, labelbottom=False)
    axes.set_title(dtype, color=_INK, fontsize=_TEXT_POINTS + 1.5, weight="bold", pad=14)
    axes.spines[:].set_visible(False)
    return image


def _draw_cell(axes: Axes, x: int, y: int, record: FaultRecord, norm: Normalize) -> None:
    """The figure itself; a frame and a mark besides colour around what was missed."""
    is_missed = record.result in (Outcome.SURVIVED, Outcome.NOT_EQUIVALENT, Outcome.UNDECIDED)
    power = _power(record)
    is_light = np.isnan(power) or norm(power) > 0.55
    axes.text(
        x,
        y,
        cell(record),
        ha="center",
        va="center",
        fontsize=_TEXT_POINTS - 1.5,
        color=_MISSED if is_missed else "black" if is_light else "white",
        weight="bold" if is_missed else "normal",
    )
    if is_missed:
        frame = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fill=False, ec=_MISSED, lw=1.2)
        axes.add_patch(frame)


def _label_families(axes: Axes, families: list[str]) -> None:
    """Names the families at the right and draws a line between them."""
    start = 0
    for family, members in groupby(families):
        size = len(list(members))
        axes.text(
            1.03,
            start + size / 2 - 0.5,
            family,
            transform=axes.get_yaxis_transform(),
            va="center",
            color=_INK,
        )
        start += size
        for each in axes.figure.axes:
            each.axhline(start - 0.5, color="white", lw=2)
