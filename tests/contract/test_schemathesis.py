"""Generated requests against the OpenAPI document: schemathesis's default checks find nothing."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from asgi_server import Server
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from firstline.core.api_key import KeyKind, Scope

Message = MutableMapping[str, Any]

DOCUMENT = json.loads((Path(__file__).parent / "openapi.json").read_text(encoding="utf-8"))
REFUSED_ALL_THE_SAME = {
    "/api/v1/auth/register",
    "/v1/categories",
    "/v1/thresholds",
    "/v1/providers",
    "/v1/analytics",
    "/v1/erasures",
    "/v1/feedback",
    "/v1/feedback/summary",
    "/v1/jobs",
    "/v1/tickets",
    "/v1/tickets/export",
    "/v1/webhooks",
    "/v1/webhooks/{webhook_id}",
    "/v1/webhooks/{webhook_id}/replay",
    "/v1/webhooks/{webhook_id}/secret",
}
"""Where a request that fits its schema may be refused: for a subscription, for what other requests have put in force,
or for bounds that a schema cannot state, such as names that occur twice or hosts that are not public."""

TAKEN_ALL_THE_SAME = {"/v1/jobs"}
"""Where what does not fit the schema may be taken: a row that cannot be read fails alone, and `format` says what a body
is whatever its Content-Type."""

CASES = [
    (method.upper(), path, mode)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if mode is GenerationMode.POSITIVE or operation.keys() & {"requestBody", "parameters"}
]


@pytest.fixture(scope="module")
def operator(production: Server) -> str:
    """A key that every route accepts."""
    return production.key("op@example.com", plan="enterprise", kind=KeyKind.OPERATOR, scope=Scope.OPERATE)


@pytest.fixture(scope="module")
def api(production: Server) -> Any:
    """The schema over the production server; its clock moves on with every request, so that no limit is reached."""

    async def nowhere(host: str, port: int) -> list[str]:
        """No name leads anywhere: tests look nothing up."""
        return []

    production.app.hooks.outbound._resolve = nowhere

    async def forward(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Hand a request to the server's own loop, where its store lives."""
        if scope["type"] != "http":
            return
        received = [await receive()]
        while received[-1].get("more_body"):
            received.append(await receive())
        sent: list[Message] = []

        async def replay() -> Message:
            return received.pop(0) if received else {"type": "http.disconnect"}

        async def collect(message: Message) -> None:
            sent.append(message)

        production.clock.advance(3_600)
        work = production.asgi({**scope, "client": ("127.0.0.1", 1)}, replay, collect)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, production._loop))  # type: ignore[arg-type]
        for message in sent:
            await send(message)

    return schemathesis.openapi.from_asgi("/openapi.json", forward)


def _within_64_bits(value: object) -> bool:
    """Numbers beyond are refused wherever they stand, which a schema cannot say of members that it does not know."""
    if isinstance(value, dict):
        return all(map(_within_64_bits, value.values()))
    if isinstance(value, list):
        return all(map(_within_64_bits, value))
    return not isinstance(value, int) or -(2**63) <= value < 2**64


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_no_default_check_finds_a_fault(api: Any, operator: str, method: str, path: str, mode: GenerationMode) -> None:
    @seed(20_261_121)
    @settings(
        max_examples=15,
        deadline=None,
        derandomize=False,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        assume(_within_64_bits(case.body))
        excluded = [positive_data_acceptance] if path in REFUSED_ALL_THE_SAME else []
        excluded += [negative_data_rejection] if path in TAKEN_ALL_THE_SAME else []
        case.call_and_validate(headers={"X-API-Key": operator}, excluded_checks=excluded)

    check()
