"""Plots as inline SVG: no script, no font, no address of anything, and every text escaped.

Colours and fonts are the page's, by class: `s0`, `s1` for the series, `grid`, `mark`, `axis`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from remote.payload.data.reporting.text import escaped, short

_WIDTH = 640
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 40, 14, 30
_BAR_HEIGHT, _BAR_GAP = 18, 7
_VALUE = 90


@dataclass(frozen=True)
class Bar:
    """One bar of a chart: what it is called, how long, what stands at its end, and its class."""

    label: str
    value: float
    told: str
    style: str = "s0"


def bars(title: str, rows: Sequence[Bar], label: int = 190) -> str:
    """Horizontal bars, the longest of full width; their names stand in `label` units before."""
    height = len(rows) * (_BAR_HEIGHT + _BAR_GAP) + _BAR_GAP
    most = max((row.value for row in rows), default=0) or 1
    room = _WIDTH - label - _VALUE
    drawn = []
    for number, row in enumerate(rows):
        top = _BAR_GAP + number * (_BAR_HEIGHT + _BAR_GAP)
        middle = top + _BAR_HEIGHT / 2 + 4
        width = max(room * row.value / most, 1 if row.value else 0)
        drawn.append(
            f"<g><title>{escaped(f'{row.label}: {row.told}')}</title>"
            f'<text class="axis" x="{label - 8}" y="{middle:.1f}" text-anchor="end">'
            f"{escaped(short(row.label, label // 8))}</text>"
            f'<rect class="{row.style}" x="{label}" y="{top}" width="{width:.1f}"'
            f' height="{_BAR_HEIGHT}" rx="2"/>'
            f'<text class="axis" x="{label + width + 6:.1f}" y="{middle:.1f}">'
            f"{escaped(row.told)}</text></g>"
        )
    return _svg(title, height, drawn)


def histogram(
    title: str,
    series: Sequence[Sequence[Sequence[int]]],
    marks: Sequence[int] = (),
    height: int = 220,
) -> str:
    """Shares of each series over lengths, on a logarithmic axis. A series is a list of `[from, to,
    count]`; `marks` are upright lines at lengths."""
    lengths = [edge for bins in series for bin_ in bins for edge in bin_[:2]]
    if not lengths:
        return ""
    low, high = _at(min(lengths)), _at(max(lengths))
    width = (_WIDTH - _LEFT - _RIGHT) / max(high - low, 0.5)
    shares = [_shares(bins) for bins in series]
    most = max((share for each in shares for *_, share in each), default=0) or 1
    room = height - _TOP - _BOTTOM

    def across(length: float) -> float:
        return _LEFT + (_at(length) - low) * width

    drawn = [*_share_axis(most, height), *_length_axis(min(lengths), max(lengths), across, height)]
    for number, each in enumerate(shares):
        for start, end, count, share in each:
            left, right = across(start), across(end)
            part = (right - left) / len(series)
            tall = room * share / most
            told = f"{start:,} to {end - 1:,}: {count:,} ({share:.1%})"
            drawn.append(
                f'<rect class="s{number}" x="{left + part * number + 0.5:.1f}"'
                f' y="{height - _BOTTOM - tall:.1f}" width="{max(part - 1, 1):.1f}"'
                f' height="{tall:.1f}"><title>{escaped(told)}</title></rect>'
            )
    for mark in marks:
        if min(lengths) <= mark <= max(lengths):
            x = across(mark)
            drawn.append(
                f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}"'
                f' y2="{height - _BOTTOM}"/><text class="axis" x="{x + 3:.1f}" y="{_TOP + 9}">'
                f"{mark}</text>"
            )
    return _svg(title, height, drawn)


def scatter(title: str, points: Iterable[Sequence[float]], names: Sequence[str]) -> str:
    """Points in a square; both axes have the same scale."""
    points = list(points)
    if not points:
        return ""
    low = min(value for point in points for value in point)
    high = max(value for point in points for value in point)
    size, span = 260, (high - low) or 1.0

    def place(value: float) -> float:
        return _LEFT + (value - low) / span * size

    bottom = _TOP + size
    corner = _LEFT + size
    drawn = [
        f'<rect class="frame" x="{_LEFT}" y="{_TOP}" width="{size}" height="{size}"/>',
        f'<line class="mark" x1="{_LEFT}" y1="{bottom}" x2="{corner}" y2="{_TOP}"/>',
        _text(_LEFT, bottom + 14, f"{low:g}", "start"),
        _text(corner, bottom + 14, f"{high:g}", "end"),
        _text(_LEFT - 5, bottom, f"{low:g}", "end"),
        _text(_LEFT - 5, _TOP + 8, f"{high:g}", "end"),
        _text(_LEFT + size / 2, bottom + 14, f"{short(names[0], 24)} →", "middle"),
        _text(corner + 8, _TOP + 8, f"↑ {short(names[1], 40)}", "start"),
    ]
    for one, other in points:
        y = bottom - (place(other) - _LEFT)
        drawn.append(f'<circle class="point" cx="{place(one):.1f}" cy="{y:.1f}" r="3"/>')
    return _svg(title, bottom + 22, drawn)


def _share_axis(most: float, height: int) -> list[str]:
    room = height - _TOP - _BOTTOM
    drawn = []
    for part in (0.0, 0.5, 1.0):
        y = height - _BOTTOM - room * part
        drawn.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        drawn.append(_text(_LEFT - 5, y + 4, f"{most * part:.0%}", "end"))
    return drawn


def _length_axis(low: int, high: int, across: Callable[[float], float], height: int) -> list[str]:
    ticks = [tick for power in range(9) for tick in (10**power, 3 * 10**power)]
    inside = [tick for tick in ticks if low <= tick <= high] or [max(low, 1)]
    return [_text(across(tick), height - _BOTTOM + 16, f"{tick:,}", "middle") for tick in inside]


def _shares(bins: Sequence[Sequence[int]]) -> list[tuple[int, int, int, float]]:
    total = sum(count for *_, count in bins) or 1
    return [(start, end, count, count / total) for start, end, count in bins]


def _at(length: float) -> float:
    return math.log2(max(length, 0.7))


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return (
        f'<text class="axis" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(words)}</text>'
    )


def _svg(title: str, height: float, drawn: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escaped(title)}">'
        f"{''.join(drawn)}</svg>"
    )
