"""Erasing a ticket, a customer, or all that an account has left behind: everywhere, once begun until it is done."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from firstline.core.identity import ERASURE
from firstline.ports.clock import Identities
from firstline.ports.erasure import Erasable, Erasing, Erasure, Erasures, Scope
from firstline.ports.history import History, Position, TicketNotFound
from firstline.ports.storage import StorageUnavailable
from firstline.usecases.access import Caller
from firstline.usecases.accounts import Accounts
from firstline.usecases.texts import Texts

CHUNK: Final = 200
"""Tickets erased in one transaction."""

WAIT_S: Final = 5.0
"""How long a request waits for its erasure to be done."""

RETRY_S: Final = 5.0
PAUSE_S: Final = 0.02


class Eraser:
    """Carries out erasures; what is begun here is gone on with by the next start if this process dies."""

    def __init__(
        self,
        history: History,
        erasures: Erasures,
        *,
        texts: Texts,
        accounts: Accounts,
        identities: Identities,
        forget: Callable[[], None],
        on_fault: Callable[[BaseException], None],
    ) -> None:
        """Args:
        forget: drops what is cached of providers' answers.
        on_fault: told of errors of our own in what happens later.
        """
        self._history = history
        self._erasures = erasures
        self._texts = texts
        self._accounts = accounts
        self._identities = identities
        self._forget = forget
        self._on_fault = on_fault
        self._running: dict[str, asyncio.Task[None]] = {}
        self._seen: str | None = None
        self._noticing: asyncio.Task[None] | None = None
        self.erasables: list[Erasable] = []
        """Whatever else keeps something of a message; each noun adds its own."""

    async def erase(self, caller: Caller, scope: Scope, subject: str | None) -> Erasure:
        """Erase what came in until now, and wait a while for it to be done.

        Args:
            subject: the ticket's id or the customer's reference; None for the whole account.
        Returns: the receipt, finished unless there was too much to do; it goes on then.
        Raises: StorageUnavailable.
        """
        now_us = self._accounts.clock.now_us()
        nothing = {"tickets": 0, "verdicts": 0}
        erasure = Erasure(self._identities.new_id(), caller.account.id, scope, now_us, subject, nothing)
        audit = self._accounts.entry(
            caller.actor,
            "erasure.create",
            caller.account.id,
            target=f"{ERASURE}{erasure.id}",
            detail={"scope": scope.value},
        )
        await self._erasures.add(erasure, audit=audit)
        await asyncio.wait({self._begin(erasure)}, timeout=WAIT_S)
        return await self._erasures.get(caller.account.id, erasure.id)

    async def get(self, caller: Caller, erasure_id: str) -> Erasure:
        """A receipt.

        Raises: ErasureNotFound, StorageUnavailable.
        """
        return await self._erasures.get(caller.account.id, erasure_id)

    async def list(self, caller: Caller, *, limit: int) -> Sequence[Erasure]:
        """The newest receipts of the account.

        Raises: StorageUnavailable.
        """
        return await self._erasures.list(caller.account.id, limit=limit)

    async def resume(self) -> None:
        """Go on with what a process that is gone has begun.

        Raises: StorageUnavailable.
        """
        for erasure in await self._erasures.unfinished():
            self._begin(erasure)

    def notice(self) -> None:
        """Another process may have erased something: drop what is cached here, if it has."""

        async def look() -> None:
            try:
                newest = await self._erasures.newest()
            except StorageUnavailable:
                newest = None
            if newest is None or newest != self._seen:
                self._seen = newest
                self._forget()

        if self._noticing is None or self._noticing.done():
            self._noticing = asyncio.create_task(look())

    async def close(self) -> None:
        """Stop; the next start goes on."""
        tasks = [*self._running.values(), *([self._noticing] if self._noticing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, erasure: Erasure) -> "asyncio.Task[None]":
        task = self._running.get(erasure.id)
        if task is None:
            task = self._running[erasure.id] = asyncio.create_task(self._persist(erasure))
            task.add_done_callback(lambda _: self._running.pop(erasure.id, None))
        return task

    async def _persist(self, erasure: Erasure) -> None:
        while True:
            try:
                await self._carry_out(erasure)
                return
            except StorageUnavailable:
                await asyncio.sleep(RETRY_S)
            except Exception as error:  # nobody may be told that it is done; the next start tries again
                self._on_fault(error)
                return

    async def _carry_out(self, erasure: Erasure) -> None:
        if erasure.scope is not Scope.TICKET:
            await self._everywhere(
                erasure,
                Erasing(
                    erasure.account_id,
                    customer_ref=erasure.subject if erasure.scope is Scope.CUSTOMER else None,
                    whole=erasure.scope is Scope.ACCOUNT,
                    before_us=erasure.requested_at_us,
                ),
            )
        if erasure.scope is Scope.ACCOUNT:
            keys = await self._texts.destroy(erasure.account_id)
            settled = await self._history.erase_settled(erasure.account_id)
            await self._erasures.count(erasure.id, {**settled, "data_keys": keys})
        while found := await self._found(erasure):
            await self._everywhere(
                erasure, Erasing(erasure.account_id, tickets=found, before_us=erasure.requested_at_us)
            )
            await self._erasures.count(erasure.id, await self._history.erase(erasure.account_id, found))
            if erasure.scope is Scope.TICKET:
                break
            await asyncio.sleep(PAUSE_S)
        self._forget()
        await self._erasures.finish(erasure.id, at_us=self._accounts.clock.now_us())

    async def _everywhere(self, erasure: Erasure, erasing: Erasing) -> None:
        counts: dict[str, int] = {}
        for erasable in self.erasables:
            counts[erasable.name] = counts.get(erasable.name, 0) + await erasable.erase(erasing)
        if counts:
            await self._erasures.count(erasure.id, counts)

    async def _found(self, erasure: Erasure) -> Sequence[Position]:
        """The next tickets to erase."""
        before_us, account_id = erasure.requested_at_us, erasure.account_id
        match erasure.scope, erasure.subject:
            case Scope.ACCOUNT, _:
                return await self._history.oldest(account_id, before_us=before_us + 1, limit=CHUNK)
            case Scope.CUSTOMER, str(customer_ref):
                return await self._history.of_customer(account_id, customer_ref, before_us=before_us + 1, limit=CHUNK)
            case Scope.TICKET, str(ticket_id):
                try:
                    ticket, _ = await self._history.get(account_id, ticket_id)
                except TicketNotFound:  # what others keep of it goes all the same
                    return [Position(0, ticket_id)]
                return [Position(ticket.received_at_us, ticket_id)]
        return []
