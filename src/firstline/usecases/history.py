"""The history of an account: tickets with their verdicts, page by page or one by one, and how long they are kept."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from firstline.core.plans import MICROSECONDS
from firstline.ports.clock import Clock
from firstline.ports.feedback import FeedbackRow, FeedbackStore
from firstline.ports.history import Filters, History, Position
from firstline.ports.journal import TicketRow, VerdictRow
from firstline.usecases.access import Caller
from firstline.usecases.texts import Opener, Texts, TextState

EXAMINED: Final = 5_000
"""Tickets that one page looks at, at most: so its cost has a bound, however long the history is."""

EXPORTED: Final = 1_000
"""Tickets that an export reads at once."""

EXPIRED: Final = 200
"""Tickets that retention removes in one transaction: other writers wait for that long."""

PAUSE_S: Final = 0.05
MAX_DAYS: Final = 36_500
_DAY_US: Final = 86_400 * MICROSECONDS


class SearchUnavailable(Exception):
    """Texts are encrypted, so that the store cannot look into them."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A ticket as it is shown.

    Attributes:
        revisions: of its verdict, the first one first; on a page the latest alone.
        feedback: what was said about it, the newest first; in exports alone.
    """

    ticket: TicketRow
    text: str | None
    text_state: TextState
    revisions: Sequence[VerdictRow]
    feedback: Sequence[FeedbackRow] = ()

    @property
    def latest(self) -> VerdictRow:
        """The revision that answers."""
        return self.revisions[-1]


@dataclass(frozen=True, slots=True)
class ShownPage:
    """A part of the history, newest first; `next` as in `ports.history.Page`."""

    tickets: Sequence[Shown]
    next: Position | None


class TicketHistory:
    """Reads the history of callers' accounts and removes what is too old."""

    def __init__(self, history: History, texts: Texts, clock: Clock, *, feedback: FeedbackStore) -> None:
        self._history = history
        self._feedback = feedback
        self._texts = texts
        self._clock = clock

    async def list(self, caller: Caller, filters: Filters, *, after: Position | None, limit: int) -> ShownPage:
        """The next tickets that pass the filters; a page may be short and have a next one.

        Raises: SearchUnavailable, StorageUnavailable.
        """
        return await self._page(caller, filters, after, limit=limit, examine=max(EXAMINED, limit))

    async def get(self, caller: Caller, ticket_id: str) -> Shown:
        """A ticket with all revisions and their evidence.

        Raises: TicketNotFound, StorageUnavailable.
        """
        ticket, verdicts = await self._history.get(caller.account.id, ticket_id)
        opener = await self._texts.opener_of(caller.account.id)
        return _shown(opener, ticket, verdicts)

    async def export(self, caller: Caller, filters: Filters) -> AsyncGenerator[Sequence[Shown], None]:
        """All tickets that pass the filters and are there now, newest first, in parts, with what was said about them.

        Raises: SearchUnavailable, StorageUnavailable.
        """
        after: Position | None = None
        while True:
            page = await self._page(caller, filters, after, limit=EXPORTED, examine=EXAMINED)
            if page.tickets:
                yield await self._with_feedback(caller, page.tickets)
            if page.next is None:
                return
            after = page.next
            await asyncio.sleep(0)

    def check(self, filters: Filters) -> None:
        """Raises: SearchUnavailable when the filters ask for what cannot be answered."""
        if filters.words is not None and self._texts.sealed:
            raise SearchUnavailable

    async def retention_days(self, caller: Caller) -> int | None:
        """How long tickets of the account are kept; None for good.

        Raises: StorageUnavailable.
        """
        return await self._history.retention_days(caller.account.id)

    async def put_retention(self, caller: Caller, days: int | None) -> None:
        """Set it, 1 to `MAX_DAYS`.

        Raises: StorageUnavailable.
        """
        await self._history.put_retention(caller.account.id, days, at_us=self._clock.now_us())

    async def expire(self) -> int:
        """Remove what accounts do not keep any longer; how many tickets that were.

        Raises: StorageUnavailable.
        """
        removed = 0
        for account_id, days in (await self._history.retentions()).items():
            before_us = self._clock.now_us() - days * _DAY_US
            while found := await self._history.oldest(account_id, before_us=before_us, limit=EXPIRED):
                await self._history.erase(account_id, found)
                removed += len(found)
                await asyncio.sleep(PAUSE_S)
        return removed

    async def _with_feedback(self, caller: Caller, tickets: Sequence[Shown]) -> Sequence[Shown]:
        ids = [one.ticket.id for one in tickets]
        said = await self._feedback.of_tickets(caller.account.id, ids)
        return [replace(one, feedback=said.get(one.ticket.id, ())) for one in tickets]

    async def _page(
        self, caller: Caller, filters: Filters, after: Position | None, *, limit: int, examine: int
    ) -> ShownPage:
        self.check(filters)
        account_id = caller.account.id
        page = await self._history.list(account_id, filters, after=after, limit=limit, examine=examine)
        opener = await self._texts.opener_of(account_id)
        shown = []
        for number, one in enumerate(page.tickets):
            shown.append(_shown(opener, one.ticket, (one.verdict,)))
            if number % 100 == 99:
                await asyncio.sleep(0)
        return ShownPage(shown, page.next)


def _shown(opener: Opener, ticket: TicketRow, verdicts: Sequence[VerdictRow]) -> Shown:
    text, state = opener.text(ticket)
    return Shown(ticket._replace(text=None), text, state, tuple(opener.verdict(row) for row in verdicts))
