"""Language models of other companies, behind `ports.provider`.

`open_provider` imports what a provider needs when it is first asked for one; a server without providers loads none of
it. Each provider is a module with one function, `open_model`. They share a transport that asks once and reads a
bounded reply, and one class that turns a question into a call of `pydantic_ai.direct` and whatever comes of it into a
reply or a failure of a kind. An opened provider belongs to the event loop in which it is first used; closing it ends
its connections.
"""

from firstline.adapters.llm.registry import PROVIDERS, open_provider

__all__ = ["PROVIDERS", "open_provider"]
