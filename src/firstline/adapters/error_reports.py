"""Reports of faults, made of what the log says of them and of nothing else.

A fault is a line of the log that has an error's type and the places that it went through, as `telemetry.fault_fields`
makes them. A report has no more: no message of an exception, no values of variables, no request, no name of a machine.
The exception itself never comes here. No more than `MOST_A_MINUTE` go out, so that a storm stays a storm of the log.
"""

import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

MOST_A_MINUTE: Final = 60
CLOSE_S: Final = 2.0


class DsnUnusable(ValueError):
    """The address for reports is none; the message says what is wrong with it, without quoting it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of our own.

    Attributes:
        type: name of the exception's class.
        places: `file:line:function`, the innermost last.
        where: route or part of the server.
        request_id, trace_id, span_id: what to look for in the log and in the traces, or None.
    """

    type: str
    places: Sequence[str]
    where: str
    request_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None


Report = Callable[[Fault], None]


class FaultLines:
    """A processor of structlog: hands faults on and leaves the line as it is."""

    def __init__(self, *reports: Report, now_s: Callable[[], float] = monotonic) -> None:
        self._reports = reports
        self._now_s = now_s
        self._minute = 0
        self._told = 0

    def __call__(self, logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """One line."""
        places = line.get("at")
        if "error" in line and isinstance(places, list) and self._may_tell():
            fault = Fault(
                type=str(line["error"]),
                places=tuple(str(place) for place in places),
                where=str(line.get("route") or line.get("event")),
                request_id=line.get("request_id"),
                trace_id=line.get("trace_id"),
                span_id=line.get("span_id"),
            )
            for report in self._reports:
                report(fault)
        return line

    def _may_tell(self) -> bool:
        minute = int(self._now_s() // 60)
        if minute != self._minute:
            self._minute, self._told = minute, 0
        self._told += 1
        return self._told <= MOST_A_MINUTE


class SentryReports:
    """Sends faults to whoever speaks Sentry's protocol; needs the extra `telemetry`."""

    def __init__(self, dsn: str, *, version: str, environment: str) -> None:
        """Raises: DsnUnusable, ImportError without the extra."""
        import sentry_sdk
        from sentry_sdk.utils import BadDsn

        try:
            # Everything that the library would find out by itself is off; what it adds all the same is left out below.
            self._client = sentry_sdk.Client(
                dsn=dsn,
                release=f"firstline@{version}",
                environment=environment,
                default_integrations=False,
                auto_enabling_integrations=False,
                integrations=[],
                include_local_variables=False,
                include_source_context=False,
                attach_stacktrace=False,
                max_breadcrumbs=0,
                auto_session_tracking=False,
                send_client_reports=False,
                enable_tracing=None,
                traces_sample_rate=None,
                profiles_sample_rate=None,
                spotlight=False,
                debug=False,
                server_name="",
                before_send=lambda event, hint: allowed(event),
                shutdown_timeout=CLOSE_S,
            )
        except BadDsn:
            raise DsnUnusable("it is no address such as https://KEY@HOST/PROJECT") from None

    def __call__(self, fault: Fault) -> None:
        """Send one soon; waits for nothing, and whatever goes wrong is not told."""
        self._client.capture_event(event_of(fault))

    def close(self) -> None:
        """Send what waits, for at most `CLOSE_S` seconds."""
        self._client.close(timeout=CLOSE_S)


def event_of(fault: Fault) -> Any:
    """A fault as an event of Sentry."""
    frames = []
    for place in fault.places:
        file, line, function = (*place.split(":", 2), "", "")[:3]
        frames.append({"filename": file, "lineno": int(line) if line.isdigit() else 0, "function": function})
    event: dict[str, Any] = {
        "level": "error",
        "platform": "python",
        "exception": {"values": [{"type": fault.type, "value": "", "stacktrace": {"frames": frames}}]},
        "tags": {"where": fault.where},
    }
    if fault.request_id and _OWN_ID.fullmatch(fault.request_id):
        event["tags"]["request_id"] = fault.request_id
    if fault.trace_id and fault.span_id:
        event["contexts"] = {"trace": {"trace_id": fault.trace_id, "span_id": fault.span_id}}
    return event


_OWN_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
"""Request ids as we make them; one that a caller has sent may say anything."""

_ALLOWED: Final = frozenset(
    {"contexts", "environment", "event_id", "exception", "level", "platform", "release", "tags", "timestamp"}
)


def allowed(event: Mapping[str, Any]) -> Any:
    """What is left of an event: what `event_of` has made, when, and of which version."""
    kept = {name: value for name, value in event.items() if name in _ALLOWED}
    kept["contexts"] = {name: value for name, value in (kept.get("contexts") or {}).items() if name == "trace"}
    return kept
