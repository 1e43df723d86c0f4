"""The operators' record: how releases reached the fleet, who stood on a roster, what a release's manifest measured."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_RELEASES = sa.table(
    "releases",
    sa.column("run_id", sa.Integer()),
    sa.column("release_id", sa.String()),
    sa.column("manifest", sa.LargeBinary()),
    sa.column("metrics", sa.JSON()),
)
_WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Makes both tables and the column, which old releases fill from their manifests.

    Rollouts from before are added from the registry when the rounds or the console start.
    """
    op.add_column("releases", sa.Column("metrics", sa.JSON(), nullable=True))
    connection = op.get_bind()
    for run_id, release_id, manifest in connection.execute(
        sa.select(_RELEASES.c.run_id, _RELEASES.c.release_id, _RELEASES.c.manifest)
    ).fetchall():
        one = (_RELEASES.c.run_id == run_id) & (_RELEASES.c.release_id == release_id)
        connection.execute(sa.update(_RELEASES).where(one).values(metrics=_metrics(manifest)))
    op.create_table(
        "rollouts",
        sa.Column("id", _WIDE, nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("release_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("step", sa.String(length=40), nullable=False),
        sa.Column("origin", sa.String(length=40), nullable=True),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("share", sa.Double(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("rollouts_once", "rollouts", ["run_id", "number", "release_id", "at"], unique=True)
    op.create_index("rollouts_of_a_release", "rollouts", ["run_id", "release_id"], unique=False)
    op.create_table(
        "cohorts",
        sa.Column("id", _WIDE, nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("cohorts_of_a_round", "cohorts", ["run_id", "round"], unique=False)
    op.create_index("records_of_a_round", "records", ["run_id", "round"], unique=False)


def downgrade() -> None:
    """Drops them."""
    op.drop_column("releases", "metrics")
    op.drop_index("records_of_a_round", table_name="records")
    op.drop_index("cohorts_of_a_round", table_name="cohorts")
    op.drop_table("cohorts")
    op.drop_index("rollouts_of_a_release", table_name="rollouts")
    op.drop_index("rollouts_once", table_name="rollouts")
    op.drop_table("rollouts")


def _metrics(manifest: bytes) -> dict[str, object]:
    try:
        found = json.loads(manifest)["metrics"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
