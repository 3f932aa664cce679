"""What users put on a graph: pins, groups, notes, and the version of it all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _graph() -> sa.Column[int]:
    graph = sa.ForeignKey("graphs.id", ondelete="CASCADE")
    return sa.Column("graph_id", sa.Integer, graph, primary_key=True, nullable=False)


def _place() -> sa.Column[int]:
    return sa.Column("place", sa.Integer, primary_key=True)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=sa.text("''"))


def upgrade() -> None:
    op.create_table(
        "workspaces",
        _graph(),
        sa.Column("version", sa.Integer, nullable=False, server_default=sa.text("0")),
    )
    op.create_table("pins", _graph(), _place(), _text("node"))
    op.create_table("groups", _graph(), _place(), _text("id"), _text("name"), _text("members"))
    op.create_table("notes", _graph(), _place(), _text("node"), _text("text"))
