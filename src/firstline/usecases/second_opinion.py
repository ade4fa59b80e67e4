"""A provider's opinion on a verdict that the local answer is not sure of."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from firstline.core.cascade import settle
from firstline.core.completion import Asked, Mode, Outcome
from firstline.core.fusion import wants_provider
from firstline.core.message import Message
from firstline.core.verdict import Reason, Verdict
from firstline.ports.tracing import NO_TRACER, Tracer
from firstline.usecases.access import Caller
from firstline.usecases.asking import Asking, Inquiry
from firstline.usecases.in_force import InForce

PENDING: Final = Reason(
    "categories_pending",
    "The account's own categories are being trained for the model in use; until then the default ones answer.",
)


@dataclass(frozen=True, slots=True)
class Asks:
    """What a request says about providers, over what its account has set.

    Attributes:
        mode: None for the account's.
        timeout_s: at most what the account has set; None for that.
    """

    mode: Mode | None = None
    timeout_s: float | None = None

    def applied(self, under: InForce) -> InForce:
        """What is in force for this request."""
        if self.mode is None and self.timeout_s is None:
            return under
        asking = under.asking
        timeout_s = asking.timeout_s if self.timeout_s is None else min(self.timeout_s, asking.timeout_s)
        return replace(under, asking=replace(asking, mode=self.mode or asking.mode, timeout_s=timeout_s))


AS_SET: Final = Asks()


@dataclass(frozen=True, slots=True)
class Request:
    """What all messages of a request have in common.

    Attributes:
        under: what is in force.
        deadline_s: for providers, on the event loop's clock.
    """

    caller: Caller
    under: InForce
    received_at_us: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Decided:
    """A verdict, and the answer of a provider that may still come."""

    verdict: Verdict
    late: "asyncio.Future[Asked] | None" = None


class SecondOpinion:
    """Asks providers where it pays; without any, nothing ever is worth asking."""

    def __init__(
        self, asking: Asking | None, *, on_fault: Callable[[BaseException], None], tracer: Tracer = NO_TRACER
    ) -> None:
        """Args:
        asking: asks providers; None where there are none.
        on_fault: told of errors of our own; the local answer stands then.
        """
        self._asking = asking if asking is not None and asking.configured else None
        self._on_fault = on_fault
        self._tracer = tracer

    def is_worth_asking(self, verdict: Verdict, under: InForce) -> bool:
        """Whether providers are to be asked about a message."""
        return self._asking is not None and wants_provider(verdict, under.asking)

    async def ask(self, message: Message, verdict: Verdict, request: Request) -> Decided:
        """The verdict with what came of asking, at the latest at the request's deadline."""
        under = request.under
        if self._asking is None:
            return Decided(verdict)
        inquiry = Inquiry(
            request.caller.account.id,
            message,
            under.asking,
            under.policy.categories,
            under.categories if under.model is not None else None,
            under.categories_version,
        )
        try:
            with self._tracer.span("ask") as span:
                opinion = await self._asking.ask(inquiry, deadline_s=request.deadline_s)
                span.set(firstline__outcome=opinion.asked.outcome.value, firstline__provider=opinion.asked.provider)
        except Exception as error:  # the local answer stands whatever happens to the other one
            self._on_fault(error)
            return Decided(settled_again(verdict, Asked(Outcome.FAILED), under))
        return Decided(settled_again(verdict, opinion.asked, under), opinion.late)

    async def ask_in_turn(
        self, gate: asyncio.Semaphore, message: Message, verdict: Verdict, request: Request
    ) -> Decided:
        """The same for one of many messages, of which only as many as the gate lets through are asked about at once."""
        try:
            async with asyncio.timeout_at(request.deadline_s):
                await gate.acquire()
        except TimeoutError:  # its turn never came
            return Decided(settled_again(verdict, Asked(Outcome.TIMEOUT), request.under))
        try:
            return await self.ask(message, verdict, request)
        finally:
            gate.release()


def settled_again(verdict: Verdict, asked: Asked, under: InForce) -> Verdict:
    """The verdict on the same evidence, now that providers have been asked."""
    evidence = verdict.evidence
    if evidence is None:
        return verdict
    settled = settle(
        evidence.facts,
        evidence.matches,
        evidence.prediction,
        under.policy,
        rules_hash=evidence.rules,
        policy_hash=evidence.policy,
        asked=asked,
    )
    return pending(settled) if under.pending else settled


def pending(verdict: Verdict) -> Verdict:
    """The verdict, with the reason that the account's own categories did not take part in it."""
    return replace(verdict, needs_review=True, reasons=(*verdict.reasons, PENDING))
