"""What alembic runs: the steps that are missing, on the connection (and in the transaction) that the engine hands over."""

from alembic import context

from aggregator.store.models import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
