"""History, erasure and the seals of texts, over the database that a server has opened."""

import os
from dataclasses import dataclass

from firstline.adapters.sealing import Sealer, secrets_of
from firstline.adapters.sql.runners import read_in_threads, write_directly
from firstline.adapters.sql.server_stores import ServerStore
from firstline.adapters.sql.sql_erasures import SqlDataKeys, SqlErasures, stored_keys
from firstline.adapters.sql.sql_feedback import SqlFeedback
from firstline.adapters.sql.sql_history import SqlHistory
from firstline.ports.clock import Clock
from firstline.ports.erasure import Erasures
from firstline.ports.feedback import FeedbackStore
from firstline.ports.history import History
from firstline.settings import Settings
from firstline.usecases.texts import Texts, can_open

_PURPOSE = "texts"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of tickets.

    Attributes:
        newest: seals under the newest secret alone; None where there is none.
    """

    history: History
    feedback: FeedbackStore
    erasures: Erasures
    texts: Texts
    newest: Sealer | None


class SecretMissing(Exception):
    """Texts are sealed under a secret that the settings do not hold; the message is for people."""


def build_kept(settings: Settings, store: ServerStore, *, clock: Clock, stale_s: int) -> Kept:
    """The history on a database.

    Args:
        stale_s: how long after a change seals may be used while the database is away.
    Raises: SecretMissing; StorageUnavailable.
    """
    read, write = read_in_threads(store.database), store.write
    secrets = secrets_of(settings.secret_key.get_secret_value() if settings.secret_key else None)
    sealing = Sealer(secrets, purpose=_PURPOSE) if secrets else None
    if not can_open(stored_keys(store.database), sealing):
        raise SecretMissing(
            "Texts in the database are encrypted under a SECRET_KEY that is not among those given. Name it too, after "
            "the newest one and a comma."
        )
    texts = Texts(
        SqlDataKeys(read, write),
        sealing=sealing,
        open_keys=lambda keys: Sealer(keys, purpose=_PURPOSE),
        new_key=lambda: os.urandom(32),
        clock=clock,
        stale_s=stale_s,
    )
    newest = Sealer(secrets[:1], purpose=_PURPOSE) if secrets else None
    judging = write_directly(store.database, isolation="READ COMMITTED") if store.shared else write
    return Kept(SqlHistory(read, write), SqlFeedback(read, judging), SqlErasures(read, write), texts, newest)
