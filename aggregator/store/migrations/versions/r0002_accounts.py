"""Who may log in to the console: accounts and their sessions."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes both tables."""
    op.create_table(
        "accounts",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=40), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("disabled", sa.Double(), nullable=True),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("issuer", sa.String(), nullable=True),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("token_hash", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("run_id", "name"),
    )
    op.create_index("accounts_by_subject", "accounts", ["run_id", "issuer", "subject"], unique=True)
    op.create_index("accounts_by_token", "accounts", ["run_id", "token_hash"], unique=True)
    op.create_table(
        "login_sessions",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=200), nullable=False),
        sa.Column("started", sa.Double(), nullable=False),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["run_id", "account"], ["accounts.run_id", "accounts.name"]),
        sa.PrimaryKeyConstraint("run_id", "token_hash"),
    )
    op.create_index("login_sessions_of_an_account", "login_sessions", ["run_id", "account"], unique=False)


def downgrade() -> None:
    """Drops both tables."""
    op.drop_index("login_sessions_of_an_account", table_name="login_sessions")
    op.drop_table("login_sessions")
    op.drop_index("accounts_by_token", table_name="accounts")
    op.drop_index("accounts_by_subject", table_name="accounts")
    op.drop_table("accounts")
