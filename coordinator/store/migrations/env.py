"""Alembic runs this file for every command; the connection comes from :mod:`coordinator.store.schema`."""

from alembic import context

from coordinator.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite cannot alter most things in place.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
