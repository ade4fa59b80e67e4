"""Erasing what was or will be sent to webhooks about tickets, for `ports.erasure.Erasable`."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select

from firstline.adapters.sql.runners import Writes
from firstline.adapters.sql.tables import outbox
from firstline.adapters.sql.webhook_tables import webhook_deliveries as deliveries
from firstline.adapters.sql.webhook_tables import webhook_events as events
from firstline.core.identity import TICKET
from firstline.ports.erasure import Erasing


class WebhookBodies:
    """Events about tickets with their deliveries, delivered or not; endpoints stay."""

    name = "webhook_bodies"

    def __init__(self, write: Writes) -> None:
        self._write = write

    async def erase(self, erasing: Erasing) -> int:
        """See the port. One transaction, so that no event slips from the outbox into deliveries meanwhile."""
        names = [f"{TICKET}{one.ticket_id}" for one in erasing.tickets]
        if not names and not erasing.whole:
            return 0

        def task(connection: Connection) -> int:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA secure_delete=ON")
            own: ColumnElement[bool] = events.c.account_id == erasing.account_id
            waiting: ColumnElement[bool] = outbox.c.account_id == erasing.account_id
            if erasing.whole:
                own = and_(own, events.c.created_at_us <= erasing.before_us)
                waiting = and_(waiting, outbox.c.created_at_us <= erasing.before_us)
            else:
                own = and_(own, events.c.subject.in_(names))
                waiting = and_(waiting, _names_one(names))
            found = select(events.c.id).where(own)
            connection.execute(delete(deliveries).where(deliveries.c.event_id.in_(found)))
            sent = connection.execute(delete(events).where(own)).rowcount
            return sent + connection.execute(delete(outbox).where(waiting)).rowcount

        return await self._write(task)


def _names_one(names: Sequence[str]) -> ColumnElement[bool]:
    return or_(*(outbox.c.payload.contains(name, autoescape=True) for name in names))
