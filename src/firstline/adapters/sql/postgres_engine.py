"""PostgreSQL engines: a bounded pool over psycopg, with time limits wherever a dead server could make it wait."""

from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import QueuePool

APPLICATION: Final = "firstline"
POOL_TIMEOUT_S: Final = 5.0
RECYCLE_S: Final = 1_800

DURABLE: Final = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)
"""Said on every connection: what a server-wide `off` would make of our promises is not for speed to decide."""


def open_postgres(url: str, *, connections: int = 8, timeout_s: float = 5.0) -> Engine:
    """An engine on a PostgreSQL database.

    Args:
        url: `postgresql://…` as libpq reads it.
        connections: most that are open at once.
        timeout_s: for connecting, and for a peer that acknowledges nothing.
    """
    options: dict[str, Any] = {
        "connect_timeout": max(2, round(timeout_s)),
        "tcp_user_timeout": round(timeout_s * 1_000),
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "application_name": APPLICATION,
    }
    given = conninfo_to_dict(url)

    def connect() -> Any:
        connection = psycopg.connect(url, **{name: value for name, value in options.items() if name not in given})
        # A pooler between us and the server may give each transaction another connection.
        connection.prepare_threshold = None
        connection.execute(DURABLE)
        connection.commit()
        return connection

    return create_engine(
        "postgresql+psycopg://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_recycle=RECYCLE_S,
    )


def place_of(url: str) -> str:
    """Where a database lies, without user and password: for messages.

    Raises: ValueError when the URL cannot be read.
    """
    try:
        found = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ValueError("it cannot be read as a URL") from None
    host, port = found.get("host", "localhost"), found.get("port", 5432)
    if not all(part.isdecimal() for part in str(port).split(",")):
        raise ValueError("its port is no number")
    return f"{host}:{port}/{found.get('dbname') or found.get('user') or ''}"
