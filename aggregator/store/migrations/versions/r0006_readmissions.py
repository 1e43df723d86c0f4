"""Operators readmit devices that rounds exclude as suspects: `readmissions` beside the other controls."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; nobody has readmitted anything yet."""
    op.add_column("controls", sa.Column("readmissions", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("controls") as table:
        table.drop_column("readmissions")
