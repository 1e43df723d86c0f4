"""What operators watch and do: phases and events of rounds, the controls, the audit; and sums of the ledger by round."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# The database itself keeps the audit as it is.
_SQLITE = """
CREATE TRIGGER audit_{verb} BEFORE {verb} ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is only ever added to'); END
"""
_POSTGRES_FUNCTION = """
CREATE FUNCTION audit_is_final() RETURNS trigger AS $$
BEGIN RAISE EXCEPTION 'the audit is only ever added to'; END
$$ LANGUAGE plpgsql
"""
_POSTGRES = "CREATE TRIGGER audit_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit EXECUTE FUNCTION audit_is_final()"
_SUMS = """
INSERT INTO ledger_sums (run_id, round, payer, kind, amount_usd)
SELECT run_id, round, payer, kind, sum(amount_usd) FROM ledger GROUP BY run_id, round, payer, kind
"""


def upgrade() -> None:
    """Makes the tables; sums up the ledger that is there."""
    op.create_table(
        "round_phases",
        sa.Column("id", _WIDE, nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("phase", sa.String(length=40), nullable=False),
        sa.Column("started", sa.Double(), nullable=False),
        sa.Column("finished", sa.Double(), nullable=True),
        sa.Column("expected", sa.Integer(), nullable=False),
        sa.Column("reported", sa.Integer(), nullable=False),
        sa.Column("needed", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("phases_of_a_round", "round_phases", ["run_id", "round"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", _WIDE, nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(length=80), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_kind", "events", ["run_id", "kind", "id"], unique=False)
    op.create_table(
        "controls",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("cohort", sa.Integer(), nullable=True),
        sa.Column("period_s", sa.Double(), nullable=True),
        sa.Column("asked_now", sa.Integer(), nullable=False),
        sa.Column("changed_by", sa.String(length=200), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_table(
        "audit",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=40), nullable=False),
        sa.Column("action", sa.String(length=80), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("run_id", "number"),
    )
    op.create_table(
        "ledger_sums",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("payer", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("amount_usd", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("run_id", "round", "payer", "kind"),
    )
    op.execute(_SUMS)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_POSTGRES_FUNCTION)
        op.execute(_POSTGRES)
    else:
        for verb in ("UPDATE", "DELETE"):
            op.execute(_SQLITE.format(verb=verb))


def downgrade() -> None:
    """Drops them."""
    op.drop_table("ledger_sums")
    op.drop_table("audit")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_is_final()")
    op.drop_table("controls")
    op.drop_index("events_by_kind", table_name="events")
    op.drop_table("events")
    op.drop_index("phases_of_a_round", table_name="round_phases")
    op.drop_table("round_phases")
