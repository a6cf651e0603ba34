"""Alembic runs this on the connection that `secagg.key_holder.store` hands to it."""

from alembic import context

from secagg.key_holder.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
