"""Prompts, graphs, sparse circuits, interventions, and their columns."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, primary_key=True)


def _owner(name: str, table: str, *, nullable: bool = False) -> sa.Column[int]:
    owner = sa.ForeignKey(f"{table}.id", ondelete="CASCADE")
    return sa.Column(name, sa.Integer, owner, nullable=nullable)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=sa.text("''"))


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0"))


def upgrade() -> None:
    op.create_table(
        "prompts",
        _id(),
        _text("run"),
        _text("run_digest"),
        _text("token_ids"),
        _text("token_digest"),
        _text("text"),
        _text("title"),
        _text("created"),
        sa.UniqueConstraint("run", "run_digest", "token_digest", name="one_prompt"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "circuits",
        _id(),
        _owner("prompt_id", "prompts"),
        _text("settings"),
        _text("summary"),
        _text("columns"),
        _integer("crc"),
        _integer("bytes"),
        _text("title"),
        _text("created"),
        sqlite_autoincrement=True,
    )
    op.create_index("circuits_of_prompt", "circuits", ["prompt_id"])
    op.create_table(
        "graphs",
        _id(),
        _owner("prompt_id", "prompts"),
        _owner("circuit_id", "circuits", nullable=True),
        _text("settings"),
        _text("settings_digest"),
        _text("provenance"),
        _text("summary"),
        _text("columns"),
        _integer("crc"),
        _text("status"),
        _integer("n_nodes"),
        _integer("n_edges"),
        _integer("bytes"),
        _text("title"),
        _text("note"),
        _text("created"),
        sa.CheckConstraint("status in ('complete', 'reduced')", name="known_status"),
        sqlite_autoincrement=True,
    )
    op.create_index("graphs_of_circuit", "graphs", ["circuit_id"])
    op.create_index(
        "one_graph",
        "graphs",
        ["prompt_id", "settings_digest", sa.text("coalesce(circuit_id, 0)")],
        unique=True,
    )
    op.create_table(
        "interventions",
        _id(),
        _owner("graph_id", "graphs"),
        _text("request"),
        _text("summary"),
        _text("columns"),
        _integer("crc"),
        _integer("bytes"),
        _text("title"),
        _text("created"),
        sqlite_autoincrement=True,
    )
    op.create_index("interventions_of_graph", "interventions", ["graph_id"])
    op.create_table(
        "chunks",
        _id(),
        _owner("graph_id", "graphs", nullable=True),
        _owner("circuit_id", "circuits", nullable=True),
        _owner("intervention_id", "interventions", nullable=True),
        _text("part"),
        _text("name"),
        _integer("number"),
        _text("dtype"),
        _integer("length"),
        _integer("crc"),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.CheckConstraint(
            "(graph_id is not null) + (circuit_id is not null) + (intervention_id is not null) = 1",
            name="one_owner",
        ),
    )
    for owner in ("graph", "circuit", "intervention"):
        columns = [f"{owner}_id", "part", "name", "number"]
        op.create_index(f"chunks_of_{owner}", "chunks", columns, unique=True)
