"""A fake of the language-model providers: their wire formats, and every way in which they fail.

It listens on loopback only and answers what the request asks for: the paths, bodies, usage figures and errors are those
of Gemini, OpenAI (chat and responses), Anthropic and servers that speak OpenAI's format; the answer fits the JSON
schema that the request carries. What is in it comes from a few keywords, the same for the same text. A script says
which requests fail and how. Several profiles, each at `/p/NAME` with a script of its own, live in one process. Hanging
answers wait for an event and never for time; what was received can be looked at afterwards.
"""

from firstline.delivery.fake_provider.latency import Latency, latency_of
from firstline.delivery.fake_provider.provider import FakeProvider, refused_url
from firstline.delivery.fake_provider.script import Fault, Script, Step
from firstline.delivery.fake_provider.server import FakeServer, Received

__all__ = ["FakeProvider", "FakeServer", "Fault", "Latency", "Received", "Script", "Step", "latency_of", "refused_url"]
