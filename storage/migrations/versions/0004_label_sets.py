"""Labels written by a language model: sets, what was asked, what came back, and how good it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, primary_key=True)


def _set() -> sa.Column[int]:
    owner = sa.ForeignKey("label_sets.id", ondelete="CASCADE")
    return sa.Column("set_id", sa.Integer, owner, nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=sa.text("''"))


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0"))


def _real(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float, nullable=False, server_default=sa.text("0"))


def upgrade() -> None:
    op.create_table(
        "label_sets",
        _id(),
        *map(_text, ("run", "run_digest", "name", "strategy", "settings", "ended", "created")),
        sa.UniqueConstraint("run", "run_digest", "name", name="one_label_set"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "label_items",
        _id(),
        _set(),
        *map(_text, ("stage", "key", "status", "label", "answer", "material", "error")),
        sa.CheckConstraint("status in ('pending', 'done', 'failed')", name="known_item_status"),
    )
    op.create_index("one_label_item", "label_items", ["set_id", "stage", "key"], unique=True)
    op.create_index("label_items_of_key", "label_items", ["set_id", "key"])
    op.create_table(
        "label_trials",
        _id(),
        _set(),
        _text("key"),
        _text("kind"),
        _integer("number"),
        _text("status"),
        _text("label"),
        *map(_integer, ("positives", "negatives", "hits", "rejections")),
        _text("details"),
        _text("error"),
        sa.CheckConstraint("kind in ('detection', 'fuzzing')", name="known_trial_kind"),
        sa.CheckConstraint(
            "status in ('pending', 'done', 'failed', 'impossible')", name="known_trial_status"
        ),
    )
    op.create_index("one_label_trial", "label_trials", ["set_id", "key", "kind", "number"], unique=True)
    op.create_table(
        "label_attempts",
        _id(),
        _set(),
        _text("purpose"),
        _text("key"),
        _integer("number"),
        _text("state"),
        _text("messages"),
        _text("answer"),
        _text("error"),
        *map(_integer, ("prompt_tokens", "completion_tokens", "counted")),
        _real("cost"),
        _real("seconds"),
        _text("model"),
        _text("created"),
        sa.CheckConstraint("state in ('sent', 'answered', 'failed')", name="known_attempt_state"),
    )
    op.create_index("label_attempts_of_key", "label_attempts", ["set_id", "key"])
