"""What people say about verdicts, kept beside them.

Guarantees of every store:

- What a judgement adds (feedback, a revision, events, counts, a kept answer) is stored wholly or not at all.
- Judgements of one account are made one after the other: each sees all that was stored before, and `given_at_us`
  ascends. Pages that follow each other by it leave nothing out, whatever is added meanwhile.
- Of the feedback on a ticket the newest counts; all of it is kept until its ticket goes, and goes with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from firstline.core.feedback import Tally
from firstline.ports.journal import IdempotencyEntry, OutboxEvent, RollupDelta, TicketRow, VerdictRow


class TooMuchFeedback(Exception):
    """A ticket has as much feedback as it may have."""


class FeedbackRow(NamedTuple):
    """What somebody said about a verdict.

    Attributes:
        id: 32 hexadecimal digits.
        revision: the one that was judged: the last that firstline gave by itself.
        given_at_us: microseconds since 1970 UTC; each of an account has its own.
        correct: whether everything in it was right.
        category_correct: whether its category was.
        source: who says so, or None.
        author: the account's own id of them, or None.
        judged_category, judged_priority, judged_decision, judged_source, probability: what that revision says.
        right_category, right_priority, right_decision: what is right; None where nobody has said.
        added_revision: the one that it added, or None.
        newest: 1 for the one that counts for its ticket, else 0.
    """

    id: str
    account_id: str
    ticket_id: str
    revision: int
    given_at_us: int
    correct: int
    category_correct: int
    source: str | None
    author: str | None
    judged_category: str
    judged_priority: str
    judged_decision: str
    judged_source: str
    probability: float
    right_category: str | None
    right_priority: str | None
    right_decision: str | None
    added_revision: int | None
    newest: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judgement comes to.

    Attributes:
        feedback: to be stored; or the newest one where the same was said before.
        repeated: whether it was, so that nothing but the kept answer is stored.
        verdict: the revision that it adds.
        idempotency: the kept answer to the request.
    """

    feedback: FeedbackRow
    repeated: bool = False
    verdict: VerdictRow | None = None
    outbox: tuple[OutboxEvent, ...] = ()
    rollups: tuple[RollupDelta, ...] = ()
    idempotency: IdempotencyEntry | None = None


class Judge(Protocol):
    """Judges a ticket inside of the store's transaction; may be called more than once, and the last call counts."""

    def __call__(
        self, ticket: TicketRow, revisions: Sequence[VerdictRow], newest: FeedbackRow | None, *, after_us: int
    ) -> Judged:
        """Args:
        revisions: of the ticket, the first one first.
        newest: what was said last about it.
        after_us: `given_at_us` must be later.
        """
        ...


class FeedbackPage(NamedTuple):
    """A part of an account's feedback, oldest first; `next` is the `after_us` of the next part, None at the end."""

    feedback: Sequence[FeedbackRow]
    next: int | None


class TallyRow(NamedTuple):
    """Tickets that were said to be of a category, with a probability in a tenth."""

    category: str
    band: int
    tally: Tally


class FeedbackStore(Protocol):
    """See the module's guarantees. All raise StorageUnavailable."""

    async def add(self, account_id: str, ticket_id: str, judge: Judge, *, most: int) -> Judged:
        """Judge a ticket and store what comes of it.

        Args:
            most: feedback that a ticket may have.
        Raises: TicketNotFound, TooMuchFeedback; what `judge` raises, and nothing is stored then.
        """
        ...

    async def of_tickets(self, account_id: str, ticket_ids: Sequence[str]) -> Mapping[str, Sequence[FeedbackRow]]:
        """What was said about tickets, the newest first; tickets without any are left out."""
        ...

    async def list(self, account_id: str, *, after_us: int, limit: int) -> FeedbackPage:
        """The next feedback that was given after a moment."""
        ...

    async def tallies(self, account_id: str, *, from_us: int, to_us: int, without: str) -> Sequence[TallyRow]:
        """The newest feedback of each ticket that was given in a range, added up, in no order.

        Args:
            without: source of verdicts that do not count.
        """
        ...
