"""Schedules of evaluations, and which of them made a run."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("eval_runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("schedule", sa.String(length=64), nullable=True))
        batch_op.create_index("ix_eval_runs_schedule", ["schedule"])
    op.create_table(
        "eval_schedules",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("eval", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("creator", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("timing", sa.JSON(), nullable=False),
        sa.Column("data_source", sa.JSON(), nullable=False),
        sa.Column("baseline", sa.String(length=64), nullable=False),
        sa.Column("criteria", sa.JSON(), nullable=True),
        sa.Column("alert", sa.JSON(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("next_run_at", sa.BigInteger(), nullable=False),
        sa.Column("last_run", sa.String(length=64), nullable=True),
        sa.Column("skipped_at", sa.BigInteger(), nullable=True),
        sa.Column("skip_reason", sa.String(length=32), nullable=True),
        sa.Column("drift", sa.String(length=8), nullable=True),
        sa.Column("watched_since", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["eval"], ["evals.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_eval_schedules_eval", "eval_schedules", ["eval"])
    op.create_index("ix_eval_schedules_tenant", "eval_schedules", ["tenant"])
    op.create_index("ix_eval_schedules_paused_next_run_at", "eval_schedules", ["paused", "next_run_at"])


def downgrade() -> None:
    op.drop_table("eval_schedules")
    with op.batch_alter_table("eval_runs", schema=None) as batch_op:
        batch_op.drop_index("ix_eval_runs_schedule")
        batch_op.drop_column("schedule")
