"""Collectors on loopback: one of traces by OTLP, one of reports by Sentry's protocol, and what they were sent."""

import gzip
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class Seen:
    """A span as it arrived."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]
    events: tuple[tuple[str, dict[str, Any]], ...]
    failed: bool
    began_ns: int
    ended_ns: int


class Collector:
    """An HTTP server in a thread that keeps what it is sent; closes when its context ends."""

    def __init__(self, *, status: int = 200, answer: bytes = b"", hangs: bool = False) -> None:
        self.bodies: list[bytes] = []
        self.heads: list[tuple[str, dict[str, str]]] = []
        self.asked = threading.Event()
        self._released = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.bodies.append(body)
                collector.heads.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                collector.asked.set()
                if hangs:
                    collector._released.wait()
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> "Collector":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def everything(self) -> bytes:
        """All that it was sent, heads too."""
        return b"".join(self.bodies) + json.dumps(self.heads).encode()

    def resource(self) -> dict[str, Any]:
        """What the first trace says of its server."""
        request = ExportTraceServiceRequest.FromString(self.bodies[0])
        return _values(request.resource_spans[0].resource.attributes)

    def spans(self) -> list[Seen]:
        """All spans, in the order of their beginning."""
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    found += [_seen(span) for span in scope.spans]
        return sorted(found, key=lambda span: span.began_ns)

    def only(self, name: str, *, where: Callable[[Seen], bool] = lambda span: True) -> Seen:
        """The one span of a name."""
        (span,) = [span for span in self.spans() if span.name == name and where(span)]
        return span

    def envelopes(self) -> list[tuple[dict[str, Any], list[tuple[dict[str, Any], dict[str, Any]]]]]:
        """What was sent by Sentry's protocol: a head each, and items of head and body."""
        found = []
        for body in self.bodies:
            lines = [json.loads(line) for line in body.splitlines() if line]
            found.append((lines[0], list(zip(lines[1::2], lines[2::2], strict=True))))
        return found


def _seen(span: Any) -> Seen:
    return Seen(
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        _values(span.attributes),
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        tuple((event.name, _values(event.attributes)) for event in span.events),
        span.status.code == 2,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
