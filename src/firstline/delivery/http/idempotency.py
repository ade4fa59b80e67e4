"""`Idempotency-Key`: a POST that is sent again takes effect once and is answered the same.

Every POST of the route table goes through here. Without the header nothing happens. With it, a handler that creates
something takes the answer along into the transaction of the effect (`entry`); of one that does not, the answer is
stored right after.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from firstline.bootstrap import App
from firstline.core.errors import (
    IDEMPOTENCY_KEY_IN_USE,
    IDEMPOTENCY_KEY_INVALID,
    IDEMPOTENCY_KEY_REUSED,
    STORE_UNAVAILABLE,
)
from firstline.core.identity import ACCOUNT
from firstline.core.taxonomy import Contract
from firstline.delivery.http.bodies import MAX_BODY_BYTES, read_body
from firstline.delivery.http.callers import Callers
from firstline.delivery.http.charging import limit_headers, uncharged
from firstline.delivery.http.replies import ErrorReply, Shape, shape_of
from firstline.ports.clock import Clock
from firstline.ports.journal import IdempotencyEntry, JournalUnavailable
from firstline.ports.limiter import UsageUnknown
from firstline.ports.storage import StorageUnavailable
from firstline.usecases.access import Caller
from firstline.usecases.accounts import KeepKey, NewKey
from firstline.usecases.idempotency import (
    MAX_KEY_LENGTH,
    MIN_UNSECURED_KEY_LENGTH,
    Answer,
    Idempotency,
    KeyReused,
    Once,
    once,
)
from firstline.usecases.verdict_store import Keep, Triaged

Handler = Callable[[Request], Awaitable[Response]]

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"

_HEADER: Final = HEADER.lower().encode()
_SCOPE: Final = "firstline.idempotency"
_VISIBLE: Final = frozenset(range(0x21, 0x7F))
_CONTRACTS: Final = {Shape.CLASSIFIER: Contract.CLASSIFIER, Shape.DECISION: Contract.DECISION}


@dataclass(slots=True)
class AnsweredOnce:
    """A request with an Idempotency-Key, on its way through its handler.

    Attributes:
        response: the answer, once `entry` was told of it; the handler must send this one.
        work: what goes on after the handler has returned; the key is in use until it ends.
    """

    asked: Once
    idempotency: Idempotency
    response: Response | None = None
    work: "asyncio.Task[None] | None" = None

    def entry(
        self, response: Response, *, account_id: str, at_us: int, kept_from_us: int | None = None
    ) -> IdempotencyEntry:
        """What to store in the transaction of what the request does; the times as in `Idempotency.entry`."""
        self.response = response
        return self.idempotency.entry(
            self.asked, _answer(response), account_id=account_id, at_us=at_us, kept_from_us=kept_from_us
        )


def answered_once(request: Request) -> AnsweredOnce | None:
    """The request's Idempotency-Key at work; None for a request without one."""
    found: AnsweredOnce | None = request.scope.get(_SCOPE)
    return found


def keeping(
    request: Request,
    answer: Callable[[Sequence[tuple[int, Triaged]]], Response],
    *,
    caller: Caller,
    at_us: int,
) -> Keep | None:
    """What stores the answer to a triage request with its verdicts; None for a request without a key."""
    found = answered_once(request)
    if found is None:
        return None
    at_work = found
    return lambda stored: at_work.entry(answer(stored), account_id=caller.account.id, at_us=at_us)


def keeping_key(
    request: Request, answer: Callable[[NewKey], Response], clock: Clock, *, account_id: str | None = None
) -> KeepKey | None:
    """What stores the answer to a request for a key with the key; None for a request without a key of its own.

    Args:
        account_id: who asks; None for the account that is made.
    """
    found = answered_once(request)
    if found is None:
        return None
    at_work = found
    return lambda new: at_work.entry(answer(new), account_id=account_id or new.account.id, at_us=clock.now_us())


@dataclass(slots=True)
class IdempotencyKeys:
    """Leads POSTs with the header past their handlers where they were answered before."""

    app: App
    callers: Callers
    _in_use: set[str] = field(default_factory=set)

    def around(
        self, handler: Handler, *, route: str, secured: bool, keyless: bool, max_body: int = MAX_BODY_BYTES
    ) -> Handler:
        """A handler that honours the header.

        Args:
            route: method and path.
            secured: whether callers have an account.
            keyless: whether they may lack a key in development.
            max_body: most bytes of a body that comes with the header.
        """

        async def handle(request: Request) -> Response:
            key = _key_of(request)
            if key is None:
                return await handler(request)
            caller, scope = await self._scope(request, key, secured=secured, keyless=keyless)
            body = await read_body(request, limit=max_body)
            content = request.scope["query_string"] + b"\0" + body
            at_work = AnsweredOnce(once(key, scope=scope, route=route, content=content), self.app.idempotency)
            if at_work.asked.key_hash in self._in_use:
                raise ErrorReply(IDEMPOTENCY_KEY_IN_USE, headers={"Retry-After": "1"})
            self._in_use.add(at_work.asked.key_hash)
            try:
                found = await self._find(at_work.asked)
                if found is not None:
                    return await self._replayed(found, request, caller, route)
                return await self._answered(handler, _again(request, body, at_work), at_work, caller, route)
            finally:
                if at_work.work is None:
                    self._in_use.discard(at_work.asked.key_hash)
                else:
                    at_work.work.add_done_callback(lambda _: self._in_use.discard(at_work.asked.key_hash))

        handle.__name__, handle.__doc__ = handler.__name__, handler.__doc__
        return handle

    async def _scope(self, request: Request, key: str, *, secured: bool, keyless: bool) -> tuple[Caller | None, str]:
        if secured:
            caller = await self.callers.identify(request, keyless=keyless)
            return caller, f"{ACCOUNT}{caller.account.id}"
        if len(key) < MIN_UNSECURED_KEY_LENGTH:
            raise ErrorReply(
                IDEMPOTENCY_KEY_INVALID,
                f"{HEADER}: at least {MIN_UNSECURED_KEY_LENGTH} characters here, since whoever knows it is given the "
                "answer.",
            )
        return None, f"address:{self.callers.address(request)}"

    async def _answered(
        self, handler: Handler, request: Request, at_work: AnsweredOnce, caller: Caller | None, route: str
    ) -> Response:
        try:
            response = await handler(request)
        except ErrorReply:
            # Another replica may have been faster with the same key: its entry made ours fail.
            try:
                found = await self._find(at_work.asked)
            except ErrorReply:
                found = None
            if found is None:
                raise
            return await self._replayed(found, request, caller, route)
        if at_work.response is None and caller is not None and 200 <= response.status_code < 300:
            await self._keep(at_work, response, caller, route)
        return response

    async def _keep(self, at_work: AnsweredOnce, response: Response, caller: Caller, route: str) -> None:
        if isinstance(response, StreamingResponse):
            return
        try:
            await self.app.idempotency.keep(at_work.asked, _answer(response), account_id=caller.account.id)
        except JournalUnavailable:  # the effect is there, so the answer holds
            self.app.metrics.store_failures.inc()
            self.app.log.error("idempotent_answer_lost", route=route)

    async def _find(self, asked: Once) -> Answer | None:
        try:
            return await self.app.idempotency.find(asked)
        except KeyReused:
            raise ErrorReply(IDEMPOTENCY_KEY_REUSED) from None
        except StorageUnavailable:
            self.app.metrics.store_failures.inc()
            raise ErrorReply(STORE_UNAVAILABLE) from None

    async def _replayed(self, found: Answer, request: Request, caller: Caller | None, route: str) -> Response:
        """The answer again; it costs the burst of the account and no quota."""
        headers = {REPLAYED: "true"}
        if caller is not None:
            await uncharged(request, app=self.app, callers=self.callers, caller=caller)
            headers.update(await self._limits(caller, route))
        return Response(found.body, found.status, headers, found.media_type)

    async def _limits(self, caller: Caller, route: str) -> dict[str, str]:
        contract = _CONTRACTS.get(shape_of(route.partition(" ")[2]))
        if contract is None:
            return {}
        plan = self.callers.plan(caller, contract)
        try:
            uses = await self.app.limiter.uses(caller.account.id, plan, now_us=self.app.clock.now_us())
        except UsageUnknown:
            return {}
        return limit_headers(plan, uses)


def _key_of(request: Request) -> str | None:
    """The header's value.

    Raises: ErrorReply 400 when it is no key.
    """
    found = [value for name, value in request.scope["headers"] if name == _HEADER]
    if not found:
        return None
    if len(found) > 1 or not 1 <= len(found[0]) <= MAX_KEY_LENGTH or not _VISIBLE.issuperset(found[0]):
        raise ErrorReply(IDEMPOTENCY_KEY_INVALID)
    return str(found[0], "ascii")


def _again(request: Request, body: bytes, at_work: AnsweredOnce) -> Request:
    """The request with its body still to be read."""
    sent = False

    async def receive() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return await request.receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    request.scope[_SCOPE] = at_work
    return Request(request.scope, receive)


def _answer(response: Response) -> Answer:
    return Answer(response.status_code, response.headers.get("content-type", ""), bytes(response.body))
