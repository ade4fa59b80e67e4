"""From finished spans to a collector: a bounded queue and a thread that nobody waits for."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

MAX_QUEUED: Final = 4_096
MAX_BATCH: Final = 512
SEND_EVERY_S: Final = 1.0
SEND_TIMEOUT_S: Final = 5.0
CLOSE_S: Final = 2.0
"""How long the end waits for what has not been sent."""

Dropped = Literal["full", "unsent"]


def open_exporter(url: str, *, headers: Mapping[str, str]) -> SpanExporter:
    """What sends to a collector, by OTLP over HTTP as Protocol Buffers.

    Args:
        url: with the path of the traces.
    """
    return OTLPSpanExporter(endpoint=url, headers=dict(headers), timeout=SEND_TIMEOUT_S)


class QueueProcessor(SpanProcessor):
    """Keeps spans until they are sent, the newest left out where the queue is full."""

    def __init__(self, exporter: SpanExporter, *, max_queued: int = MAX_QUEUED) -> None:
        self._exporter = exporter
        self._max_queued = max_queued
        self._queue: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._works: bool | None = None
        self.on_dropped: Callable[[Dropped, int], None] = lambda reason, spans: None
        """Told of spans that no collector will see; from any thread."""
        self.on_state: Callable[[bool], None] = lambda works: None
        """Told when the collector begins to take no spans, and when it takes them again; in the sending thread."""

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span; called wherever it ended."""
        if self._closing:
            self.on_dropped("unsent", 1)
            return
        if len(self._queue) >= self._max_queued:
            self.on_dropped("full", 1)
            return
        self._queue.append(span)
        if self._thread is None:
            self._begin()
        if len(self._queue) == MAX_BATCH:
            self._wake.set()

    def close(self) -> None:
        """Send what is queued, for at most `CLOSE_S` seconds; what is left then is dropped."""
        self._closing = True
        self._wake.set()
        thread = self._thread
        if thread is not None:
            thread.join(CLOSE_S)
        left = self._take(self._max_queued)
        if left:
            self.on_dropped("unsent", len(left))
        if thread is None or not thread.is_alive():
            self._exporter.shutdown()

    def shutdown(self) -> None:
        """The same, as the SDK calls it."""
        if not self._closing:
            self.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have what is queued sent soon; waits for nothing."""
        self._wake.set()
        return True

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._wake.wait(SEND_EVERY_S)
            self._wake.clear()
            while batch := self._take(MAX_BATCH):
                self._send(batch)
            if self._closing:
                return

    def _take(self, most: int) -> list[ReadableSpan]:
        taken: list[ReadableSpan] = []
        try:
            while len(taken) < most:
                taken.append(self._queue.popleft())
        except IndexError:
            pass
        return taken

    def _send(self, batch: Sequence[ReadableSpan]) -> None:
        try:
            works = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception:  # whatever a collector makes of it, the thread goes on
            works = False
        if not works:
            self.on_dropped("unsent", len(batch))
        if works is not self._works and (self._works is not None or not works):
            self.on_state(works)
        self._works = works
