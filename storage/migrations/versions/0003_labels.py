"""What people call components: every change of every label."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=sa.text("''"))


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0"))


def upgrade() -> None:
    op.create_table(
        "label_changes",
        sa.Column("id", sa.Integer, primary_key=True),
        _text("run"),
        _text("run_digest"),
        _text("key"),
        _text("kind"),
        _integer("step"),
        _text("name"),
        _text("text"),
        sa.Column("rating", sa.Integer),
        _text("author"),
        _text("created"),
        _text("updated"),
        _text("changed_by"),
        _text("changed"),
        _integer("crc"),
        sa.CheckConstraint("kind in ('edit', 'import', 'undo', 'redo')", name="known_kind"),
        sa.CheckConstraint("rating between 1 and 5", name="known_rating"),
        sqlite_autoincrement=True,
    )
    op.create_index("label_changes_of_key", "label_changes", ["run", "run_digest", "key", "id"])
    op.create_index("label_changes_of_step", "label_changes", ["step"])
