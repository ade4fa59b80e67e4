"""Two charts as SVG: how far stated probabilities hold, and what answering only the surest rows would give.

They read on light and on dark ground: colours follow the viewer's scheme. No script, no font of their own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape  # nosec B406  # it writes, and reads nothing

from firstline.learning.evaluation import SURE, Quality

Point = tuple[float, float]

_WIDTH: Final = 560
_HEIGHT: Final = 440
_LEFT: Final = 72
_RIGHT: Final = 24
_TOP: Final = 64
_BOTTOM: Final = 64
_STYLE: Final = """
  svg { font: 13px system-ui, sans-serif; }
  .ground { fill: #ffffff; } text { fill: #1f2933; } .quiet { fill: #52606d; }
  .grid { stroke: #d9dee4; stroke-width: 1; } .ideal { stroke: #7b8794; stroke-width: 1.5; stroke-dasharray: 5 4; }
  .line { fill: none; stroke: #1461b8; stroke-width: 2.5; stroke-linejoin: round; } .mark { fill: #1461b8; }
  .range { stroke: #1461b8; stroke-width: 1.5; } .band { fill: #1461b8; fill-opacity: 0.14; }
  .found { stroke: #b54708; stroke-width: 1.5; stroke-dasharray: 2 3; } .said { fill: #b54708; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #14181d; } text { fill: #e4e7eb; } .quiet { fill: #a3afbb; } .grid { stroke: #323a43; }
    .ideal { stroke: #8b98a5; } .line, .range { stroke: #6cb2ff; } .mark, .band { fill: #6cb2ff; }
    .found { stroke: #ffb170; } .said { fill: #ffb170; }
  }
"""


@dataclass(frozen=True, slots=True)
class _Frame:
    """A square of the drawing and the numbers that its edges stand for."""

    bottom: float
    top: float = 1.0

    def x(self, value: float) -> float:
        return round(_LEFT + value * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        share = (max(value, self.bottom) - self.bottom) / (self.top - self.bottom)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    def path(self, points: Sequence[Point]) -> str:
        return " ".join(f"{'M' if not place else 'L'}{self.x(x)} {self.y(y)}" for place, (x, y) in enumerate(points))


def reliability_chart(quality: Quality) -> str:
    """Share of right answers by stated probability; on the dashed line both are the same."""
    frame = _Frame(0.0)
    most = max(found.accuracy.n for found in quality.bins)
    parts = [f'<path class="ideal" d="{frame.path([(0, 0), (1, 1)])}"/>']
    for found in quality.bins:
        height = 56 * found.accuracy.n / most
        left, right = frame.x(found.low) + 2, frame.x(found.high) - 2
        parts.append(
            f'<rect class="band" x="{left:.1f}" y="{frame.y(0) - height:.1f}" width="{right - left:.1f}" '
            f'height="{height:.1f}"><title>{found.accuracy.n:,} rows</title></rect>'
        )
    parts.append(
        f'<path class="line" d="{frame.path([(found.stated, found.accuracy.value) for found in quality.bins])}"/>'
    )
    for found in quality.bins:
        x = frame.x(found.stated)
        parts.append(
            f'<line class="range" x1="{x}" x2="{x}" y1="{frame.y(found.accuracy.low)}" '
            f'y2="{frame.y(found.accuracy.high)}"/>'
        )
        parts.append(
            f'<circle class="mark" cx="{x}" cy="{frame.y(found.accuracy.value)}" r="4"><title>stated '
            f"{found.stated:.1%}, right {found.accuracy.value:.1%} of {found.accuracy.n:,} rows</title></circle>"
        )
    return _svg(
        frame,
        "Stated probability and accuracy",
        f"{quality.accuracy.n:,} rows, calibration error {quality.calibration_error:.3f}; bars: 95 %; shaded: rows",
        ("Stated probability", "Share of right answers"),
        parts,
    )


def risk_coverage_chart(quality: Quality) -> str:
    """Share of right answers when only the surest rows are answered, by how many that are."""
    lowest = min(point.accuracy for point in quality.curve)
    frame = _Frame(min(0.9, int(lowest * 10) / 10))
    points = [(point.share, point.accuracy) for point in quality.curve]
    parts = []
    if quality.sure is not None:
        x, y = frame.x(quality.sure.share), frame.y(SURE)
        parts.append(f'<line class="found" x1="{frame.x(0)}" x2="{x}" y1="{y}" y2="{y}"/>')
        parts.append(f'<line class="found" x1="{x}" x2="{x}" y1="{y}" y2="{frame.y(frame.bottom)}"/>')
        said = f"{quality.sure.share:.0%} of rows at {SURE:.0%} right"
        # Beside the line, where there is room.
        aside = f'x="{x - 8}" text-anchor="end"' if quality.sure.share > 0.5 else f'x="{x + 8}"'
        parts.append(f'<text class="said" {aside} y="{frame.y(frame.bottom) - 12}">{said}</text>')
    parts.append(f'<path class="line" d="{frame.path(points)}"/>')
    return _svg(
        frame,
        "Answering only the surest",
        f"{quality.accuracy.n:,} rows, {quality.accuracy.value:.1%} right when all are answered",
        ("Share of rows answered", "Share of right answers"),
        parts,
    )


def _svg(frame: _Frame, title: str, subtitle: str, axes: tuple[str, str], parts: Sequence[str]) -> str:
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}: {escape(subtitle)}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text x="{_LEFT}" y="26" font-size="16" font-weight="600">{escape(title)}</text>',
        f'<text class="quiet" x="{_LEFT}" y="46" font-size="12">{escape(subtitle)}</text>',
        *_grid(frame),
        f'<text x="{frame.x(0.5)}" y="{_HEIGHT - 18}" text-anchor="middle">{escape(axes[0])}</text>',
        f'<text x="20" y="{middle}" text-anchor="middle" transform="rotate(-90 20 {middle})">{escape(axes[1])}</text>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _grid(frame: _Frame) -> Iterator[str]:
    for tick in range(6):
        value = tick / 5
        x, height = frame.x(value), frame.bottom + (frame.top - frame.bottom) * value
        y = frame.y(height)
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="{frame.y(frame.top)}" y2="{frame.y(frame.bottom)}"/>'
        yield f'<line class="grid" x1="{frame.x(0)}" x2="{frame.x(1)}" y1="{y}" y2="{y}"/>'
        yield f'<text class="quiet" x="{x}" y="{frame.y(frame.bottom) + 20}" text-anchor="middle">{value:.0%}</text>'
        yield f'<text class="quiet" x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{height:.0%}</text>'
