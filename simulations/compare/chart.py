"""A line or point chart as inline SVG: no library, no script, readable in light and dark.

Colors are classes (``s0`` to ``s9``) that the page's style sheet defines; sizes are in SVG units of
a 640 x 380 view that scales with the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

WIDTH: Final = 640
HEIGHT: Final = 380
LEFT: Final = 56
RIGHT: Final = 14
TOP: Final = 14
BOTTOM: Final = 44
COLORS: Final = 10
TICKS: Final = 6


@dataclass(frozen=True, slots=True)
class Series:
    """Points in order of x; ``low`` and ``high`` are a band or error bars around y, or empty.

    ``joined``: a line, else single points. ``color``: an index, taken modulo COLORS. ``dashed``:
    a line of class ``front`` without a color of its own.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    joined: bool = True
    dashed: bool = False


@dataclass(slots=True)
class Axis:
    """A scale from data to drawing; ``log`` for powers of ten, ``names`` for 1, 2, 3 ..."""

    title: str
    log: bool = False
    low: float = 0.0
    high: float = 1.0
    begin: float = 0.0
    end: float = 1.0
    ticks: list[float] = field(default_factory=list)
    names: tuple[str, ...] = ()

    def fit(self, values: Sequence[float], begin: float, end: float) -> None:
        """Cover all finite values, with a little room, between two places of the drawing."""
        self.begin, self.end = begin, end
        kept = [value for value in values if math.isfinite(value) and (value > 0 or not self.log)]
        if not kept:
            kept = [1.0, 2.0]
        low, high = min(kept), max(kept)
        if self.log:
            low, high = math.log10(low), math.log10(high)
        room = 0.06 * (high - low) or 0.5
        self.low, self.high = low - room, high + room
        self.ticks = _log_ticks(self.low, self.high) if self.log else _ticks(self.low, self.high)
        if self.names:
            self.low, self.high = 0.5, len(self.names) + 0.5
            self.ticks = [float(place + 1) for place in range(len(self.names))]

    def label(self, tick: float) -> str:
        """What a tick is called."""
        return self.names[round(tick) - 1] if self.names else _number(tick)

    def place(self, value: float) -> float:
        """Where a value is drawn; beyond the edge for what is infinite."""
        if self.log:
            value = math.log10(value) if value > 0 else self.low
        value = min(max(value, self.low), self.high)
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)


def draw(series: Sequence[Series], x: Axis, y: Axis, title: str, y_max: float = math.inf) -> str:
    """The chart as one ``<svg>``. Values of y above ``y_max`` are cut off."""
    all_x = [value for each in series for value in each.x]
    all_y = [min(value, y_max) for each in series for value in (*each.y, *each.low, *each.high)]
    x.fit(all_x, LEFT, WIDTH - RIGHT)
    y.fit(all_y, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *_grid(x, y),
        *(part for each in series for part in _drawn(each, x, y)),
        "</svg>",
    ]
    return "\n".join(parts)


def _grid(x: Axis, y: Axis) -> list[str]:
    parts: list[str] = []
    for tick in y.ticks:
        at = y.place(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}"/>'
        )
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{at + 4:.1f}">{y.label(tick)}</text>')
    for tick in x.ticks:
        at = x.place(tick)
        foot = HEIGHT - BOTTOM
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{foot}"/>')
        parts.append(
            f'<text class="tick x" x="{at:.1f}" y="{foot + 17}">{escape(x.label(tick))}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 6}">{escape(x.title)}</text>')
    parts.append(f'<text class="axis y" x="{LEFT}" y="{TOP - 2}">{escape(y.title)}</text>')
    return parts


def _drawn(series: Series, x: Axis, y: Axis) -> list[str]:
    color = "front" if series.dashed else f"s{series.color % COLORS}"
    points = [
        (x.place(a), y.place(b))
        for a, b in zip(series.x, series.y, strict=True)
        if math.isfinite(b) and (a > 0 or not x.log)
    ]
    parts = [f"<g><title>{escape(series.name)}</title>"]
    if series.joined:
        if series.low:
            parts.append(_band(series, x, y, color))
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(f'<polyline class="line {color}" points="{path}"/>')
    else:
        for place, (a, b) in enumerate(points):
            if series.low:
                low, high = y.place(series.low[place]), y.place(series.high[place])
                parts.append(
                    f'<line class="line {color}" x1="{a:.1f}" y1="{low:.1f}" '
                    f'x2="{a:.1f}" y2="{high:.1f}"/>'
                )
            parts.append(f'<circle class="dot {color}" cx="{a:.1f}" cy="{b:.1f}" r="5"/>')
    return [*parts, "</g>"]


def _band(series: Series, x: Axis, y: Axis, color: str) -> str:
    there = [(x.place(a), y.place(b)) for a, b in zip(series.x, series.low, strict=True)]
    back = [(x.place(a), y.place(b)) for a, b in zip(series.x, series.high, strict=True)]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in [*there, *reversed(back)])
    return f'<polygon class="band {color}" points="{path}"/>'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, about TICKS of them."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough)
    first = math.ceil(low / step)
    return [round(place * step, 10) for place in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten, or the powers alone where those are many."""
    digits = (1, 2, 5) if high - low < 3 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in digits]
    return [tick for tick in ticks if low <= math.log10(tick) <= high]


def _number(value: float) -> str:
    if value != 0 and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:g}"
