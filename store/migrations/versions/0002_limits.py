"""Concurrency and budgets of keys, limits of tenants, prices of models."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tenants",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("tokens_per_minute", sa.Integer(), nullable=True),
        *_new_limits(),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        for column in _new_limits():
            batch_op.add_column(column)
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.add_column(sa.Column("input_price", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("output_price", sa.Double(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.drop_column("output_price")
        batch_op.drop_column("input_price")
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        for column in _new_limits():
            batch_op.drop_column(column.name)
    op.drop_table("tenants")


def _new_limits() -> list[sa.Column[Any]]:
    return [
        sa.Column("concurrency", sa.Integer(), nullable=True),
        sa.Column("tokens_per_day", sa.BigInteger(), nullable=True),
        sa.Column("tokens_per_month", sa.BigInteger(), nullable=True),
        sa.Column("money_per_day", sa.Double(), nullable=True),
        sa.Column("money_per_month", sa.Double(), nullable=True),
    ]
