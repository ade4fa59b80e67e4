"""What a verdict adds to the counts of its account, and what a revision moves."""

from typing import Final

from firstline.core.plans import Window, window_bounds
from firstline.core.rollups import UNTIMED, class_of
from firstline.ports.journal import RollupDelta, TicketRow, VerdictRow

_SOON_US: Final = 50_000
"""The row of a job is not decided so soon after the job was made."""


def counted(ticket: TicketRow, verdict: VerdictRow, *, timed: bool = True) -> RollupDelta:
    """One ticket with its first verdict, in the hour in which it was received.

    Args:
        timed: whether somebody has waited for the verdict, so that the time it took says something.
    """
    return RollupDelta(
        account_id=verdict.account_id,
        starts_at_us=window_bounds(Window.HOUR, ticket.received_at_us)[0],
        category=verdict.category,
        priority=verdict.priority,
        decision=verdict.decision,
        language=ticket.language or "",
        channel=ticket.channel or "",
        source=verdict.source,
        latency_class=class_of(verdict.processing_us) if timed else UNTIMED,
        tickets=1,
        reviews=verdict.needs_review,
        processing_us=verdict.processing_us if timed else 0,
    )


def counted_now(ticket: TicketRow, first: VerdictRow, latest: VerdictRow) -> RollupDelta:
    """How a stored ticket counts: by its latest verdict, with the time that the first one took."""
    timed = not _is_row_of_job(ticket, first)
    return counted(ticket, latest._replace(processing_us=first.processing_us), timed=timed)


def _is_row_of_job(ticket: TicketRow, first: VerdictRow) -> bool:
    """Whether a ticket came in with a job, going by its id: that was made when the job was, long before the verdict.

    The id of any other ticket is made together with its verdict.
    """
    made_ms = int(ticket.id[:12], 16)
    return made_ms == ticket.received_at_us // 1_000 and first.processing_us >= _SOON_US


def moved(now: RollupDelta, verdict: VerdictRow) -> tuple[RollupDelta, RollupDelta]:
    """A ticket taken from where it counts now and added where a later verdict puts it; its time stays.

    Args:
        now: as the ticket was counted with the verdict that stood until then.
    """
    return (
        now._replace(tickets=-1, reviews=-now.reviews, processing_us=-now.processing_us),
        now._replace(
            category=verdict.category,
            priority=verdict.priority,
            decision=verdict.decision,
            source=verdict.source,
            reviews=verdict.needs_review,
        ),
    )
