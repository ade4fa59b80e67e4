"""Alembic's environment: the connection is handed in, transactions are explicit."""

from alembic import context

from firstline.adapters.sql import (
    analytics_tables,  # noqa: F401  # adds its tables to the metadata
    job_tables,  # noqa: F401  # adds its tables to the metadata  # tables of a module of their own
    webhook_tables,  # noqa: F401  # adds its tables to the metadata  # so that the metadata is whole
)
from firstline.adapters.sql.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
