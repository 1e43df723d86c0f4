"""Indices by time for what retention forgets: without them, each look for old rows of the ledger would scan it all."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes them."""
    op.create_index("ledger_by_time", "ledger", ["run_id", "at"], unique=False)
    op.create_index("events_by_time", "events", ["run_id", "at"], unique=False)


def downgrade() -> None:
    """Drops them."""
    op.drop_index("events_by_time", table_name="events")
    op.drop_index("ledger_by_time", table_name="ledger")
