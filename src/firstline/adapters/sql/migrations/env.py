"""Alembic's environment: the connection is handed in, transactions are explicit."""

from alembic import context

from firstline.adapters.sql import (
    analytics_tables,  # noqa: F401  # each adds its tables to the metadata, so that it is whole
    feedback_tables,  # noqa: F401  # as above
    history_tables,  # noqa: F401  # as above
    job_tables,  # noqa: F401  # as above
    webhook_tables,  # noqa: F401  # as above
)
from firstline.adapters.sql.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
