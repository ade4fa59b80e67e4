"""What a panel says, apart from how Grafana writes it down; and the few shapes that queries have."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

OF_US: Final = 'job=~"$job", instance=~"$instance"'
"""The processes that are chosen at the top of a dashboard."""

FOR_CALLERS: Final = 'route!~"/metrics|/health.*|/api/v1/health"'
"""Routes that somebody calls for an answer, and not to watch the server."""

ONE_MESSAGE: Final = 'route=~"/api/v1/classify|/v1/decision"'
"""Routes that answer one message; a batch takes as long as it has tickets."""

RATE: Final = "$__rate_interval"
RANGE: Final = "$__range"


class Kind(StrEnum):
    """How a panel is drawn."""

    GRAPH = "graph"
    NUMBER = "number"
    BARS = "bars"
    HEAT = "heat"
    STATES = "states"
    TABLE = "table"


class Unit(StrEnum):
    """Units by Grafana's names."""

    COUNT = "short"
    REQUESTS_PER_S = "reqps"
    PER_S = "cps"
    SHARE = "percentunit"
    SECONDS = "s"
    BYTES = "bytes"
    DOLLARS = "currencyUSD"
    CORES = "suffix: cores"
    ROWS_PER_S = "suffix: rows/s"
    TOKENS_PER_S = "suffix: tokens/s"
    DOLLARS_PER_H = "suffix: $/h"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Query:
    """A query and what its series are called.

    Attributes:
        legend: with labels as `{{label}}`.
        buckets: whether its series are the buckets of a histogram, by `le`.
    """

    text: str
    legend: str
    buckets: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """From which value on something deserves a look, or somebody's sleep.

    Attributes:
        warn, alarm: the bounds; None where there is none.
        below: whether what is under a bound is the bad side.
    """

    warn: float | None = None
    alarm: float | None = None
    below: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        about: what it shows and what to make of it, for people.
        page: of the documentation, that goes on: a path under docs without its ending.
        width: of 24.
        stacked: whether series lie on top of each other.
        most: the end of its scale, where there is one.
        names: what its values are called, for states.
        columns: what columns are called, for tables; those that are not named are left out.
    """

    title: str
    queries: Sequence[Query]
    unit: Unit
    about: str
    kind: Kind = Kind.GRAPH
    page: str | None = None
    width: int = 12
    height: int = 8
    level: Level = Level()
    stacked: bool = False
    most: float | None = None
    decimals: int | None = None
    names: Sequence[tuple[float, str, str]] = ()
    columns: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard.

    Attributes:
        name: of its file, and part of its address in Grafana.
        since: where its time begins, such as `now-6h`.
    """

    name: str
    title: str
    about: str
    rows: Sequence[Row]
    since: str = "now-6h"


def of(metric: str, *labels: str) -> str:
    """A metric of the chosen processes."""
    return f"{metric}{{{', '.join((OF_US, *labels))}}}"


def rate(metric: str, *labels: str) -> str:
    """How fast a counter grows, a second."""
    return f"rate({of(metric, *labels)}[{RATE}])"


def grown(metric: str, *labels: str) -> str:
    """How much a counter has grown in the time that is shown."""
    return f"increase({of(metric, *labels)}[{RANGE}])"


def summed(value: str, *, by: str = "") -> str:
    """The sum over all processes."""
    return f"sum by ({by}) ({value})" if by else f"sum({value})"


def share(part: str, whole: str) -> str:
    """A part of a whole; 0 where there is a whole and no part yet."""
    return f"({part} or {whole} * 0) / {whole}"


def shares(parts: str, whole: str) -> str:
    """What several parts, by a label, are of one whole."""
    return f"{parts} / on () group_left () {whole}"


def quantile(at: float, histogram: str, *labels: str, by: str = "") -> str:
    """A quantile of a histogram over all processes."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({at}, {summed(rate(f'{histogram}_bucket', *labels), by=grouped)})"


def mean(histogram: str, *labels: str, by: str = "") -> str:
    """The mean of a histogram over all processes."""
    return f"{summed(rate(f'{histogram}_sum', *labels), by=by)} / {summed(rate(f'{histogram}_count', *labels), by=by)}"


def number(
    title: str,
    text: str,
    *,
    unit: Unit,
    about: str,
    page: str | None = None,
    level: Level = Level(),
    legend: str = "",
    width: int = 4,
    decimals: int | None = None,
) -> Panel:
    """One value of now, in large."""
    queries = (Query(text, legend or title),)
    return Panel(
        title, queries, unit, about, kind=Kind.NUMBER, page=page, width=width, height=4, level=level, decimals=decimals
    )
