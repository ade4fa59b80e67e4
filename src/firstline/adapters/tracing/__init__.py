"""Traces by OpenTelemetry, sent by OTLP over HTTP; needs the extra `telemetry`.

Guarantees:

- Nothing waits for the collector: spans go into a bounded queue, a thread of its own sends them, and what does not fit
  or cannot be sent is dropped and counted. The end waits at most `export.CLOSE_S` seconds.
- Whoever calls may name the trace that a request belongs to, but has no more requests traced than the sampler would.
- No trace context leaves for language models or receivers of webhooks.
"""
