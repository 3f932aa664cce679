"""The tables of the graph database. What a file really gets is written by ``storage/migrations``.

A test compares the two. Columns of numbers and results lie in ``chunks``, away from what lists read,
so that a list never pages through megabytes; ``columns`` of their owner says what must be there, and
``crc`` seals what is never changed in a row (storage/graph_rows.py). Identifiers are never used twice: a link to something
that was deleted does not lead to something else.
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

#: All migrations in order; a file that names the last one needs nothing done.
VERSIONS = ("0001", "0002", "0003", "0004", "0005")
HEAD = VERSIONS[-1]
#: ``PRAGMA application_id`` of our files, "TRIB".
APPLICATION_ID = 0x54524942

metadata = MetaData()


def _id() -> Column[int]:
    return Column("id", Integer, primary_key=True)


def _owner(name: str, table: str, *, nullable: bool = False, primary_key: bool = False) -> Column[int]:
    """A reference to what this row hangs on and goes with."""
    return Column(
        name,
        Integer,
        ForeignKey(f"{table}.id", ondelete="CASCADE"),
        nullable=nullable,
        primary_key=primary_key,
    )


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default=text("''"))


def _integer(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text("0"))


prompts = Table(
    "prompts",
    metadata,
    _id(),
    _text("run"),
    _text("run_digest"),
    _text("token_ids"),
    _text("token_digest"),
    _text("text"),
    _text("title"),
    _text("created"),
    UniqueConstraint("run", "run_digest", "token_digest", name="one_prompt"),
    sqlite_autoincrement=True,
)

circuits = Table(
    "circuits",
    metadata,
    _id(),
    _owner("prompt_id", "prompts"),
    _text("settings"),
    _text("summary"),
    _text("columns"),
    _integer("crc"),
    _integer("bytes"),
    _text("title"),
    _text("created"),
    Index("circuits_of_prompt", "prompt_id"),
    sqlite_autoincrement=True,
)

graphs = Table(
    "graphs",
    metadata,
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
    Index("graphs_of_circuit", "circuit_id"),
    CheckConstraint("status in ('complete', 'reduced')", name="known_status"),
    sqlite_autoincrement=True,
)
# To SQLite two NULLs differ; here no circuit is a circuit like another. Identifiers begin with 1.
Index(
    "one_graph",
    graphs.c.prompt_id,
    graphs.c.settings_digest,
    func.coalesce(graphs.c.circuit_id, text("0")),
    unique=True,
)

interventions = Table(
    "interventions",
    metadata,
    _id(),
    _owner("graph_id", "graphs"),
    _text("request"),
    _text("summary"),
    _text("columns"),
    _integer("crc"),
    _integer("bytes"),
    _text("title"),
    _text("created"),
    Index("interventions_of_graph", "graph_id"),
    sqlite_autoincrement=True,
)

#: One piece of one column (storage/graph_columns.py) of exactly one owner.
chunks = Table(
    "chunks",
    metadata,
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
    Column("data", LargeBinary, nullable=False),
    CheckConstraint(
        "(graph_id is not null) + (circuit_id is not null) + (intervention_id is not null) = 1",
        name="one_owner",
    ),
    Index("chunks_of_graph", "graph_id", "part", "name", "number", unique=True),
    Index("chunks_of_circuit", "circuit_id", "part", "name", "number", unique=True),
    Index("chunks_of_intervention", "intervention_id", "part", "name", "number", unique=True),
)

#: The version of a graph's workspace; a graph whose workspace was never saved has no row.
workspaces = Table(
    "workspaces",
    metadata,
    _owner("graph_id", "graphs", primary_key=True),
    _integer("version"),
)

pins = Table(
    "pins",
    metadata,
    _owner("graph_id", "graphs", primary_key=True),
    Column("place", Integer, primary_key=True),
    _text("node"),
)

groups = Table(
    "groups",
    metadata,
    _owner("graph_id", "graphs", primary_key=True),
    Column("place", Integer, primary_key=True),
    _text("id"),
    _text("name"),
    _text("members"),
)

notes = Table(
    "notes",
    metadata,
    _owner("graph_id", "graphs", primary_key=True),
    Column("place", Integer, primary_key=True),
    _text("node"),
    _text("text"),
)

#: Every change of a component's label, none ever altered or removed (storage/labels.py).
label_changes = Table(
    "label_changes",
    metadata,
    _id(),
    _text("run"),
    _text("run_digest"),
    _text("key"),
    _text("kind"),
    _integer("step"),
    _text("name"),
    _text("text"),
    Column("rating", Integer),
    _text("author"),
    _text("created"),
    _text("updated"),
    _text("changed_by"),
    _text("changed"),
    _integer("crc"),
    CheckConstraint("kind in ('edit', 'import', 'undo', 'redo')", name="known_kind"),
    CheckConstraint("rating between 1 and 5", name="known_rating"),
    Index("label_changes_of_key", "run", "run_digest", "key", "id"),
    Index("label_changes_of_step", "step"),
    sqlite_autoincrement=True,
)

#: Labels that one way of asking one model gave to components of a run, and who judges them (empty:
#: nobody yet).
label_sets = Table(
    "label_sets",
    metadata,
    _id(),
    _text("run"),
    _text("run_digest"),
    _text("name"),
    _text("strategy"),
    _text("settings"),
    _text("ended"),
    _text("created"),
    _text("judge_model"),
    _text("judge_endpoint"),
    UniqueConstraint("run", "run_digest", "name", name="one_label_set"),
    sqlite_autoincrement=True,
)

#: One component in one stage of a set; the last stage's label is the component's.
label_items = Table(
    "label_items",
    metadata,
    _id(),
    _owner("set_id", "label_sets"),
    _text("stage"),
    _text("key"),
    _text("status"),
    _text("label"),
    _text("answer"),
    _text("material"),
    _text("error"),
    CheckConstraint("status in ('pending', 'done', 'failed')", name="known_item_status"),
    Index("one_label_item", "set_id", "stage", "key", unique=True),
    Index("label_items_of_key", "set_id", "key"),
)

#: One question of scoring: how many of the windows shown were judged rightly.
label_trials = Table(
    "label_trials",
    metadata,
    _id(),
    _owner("set_id", "label_sets"),
    _text("key"),
    _text("kind"),
    _integer("number"),
    _text("status"),
    _text("label"),
    _integer("positives"),
    _integer("negatives"),
    _integer("hits"),
    _integer("rejections"),
    _text("details"),
    _text("error"),
    CheckConstraint("kind in ('detection', 'fuzzing')", name="known_trial_kind"),
    CheckConstraint("status in ('pending', 'done', 'failed', 'impossible')", name="known_trial_status"),
    Index("one_label_trial", "set_id", "key", "kind", "number", unique=True),
)

#: Every request that was sent, word for word, with what came back and what it cost.
label_attempts = Table(
    "label_attempts",
    metadata,
    _id(),
    _owner("set_id", "label_sets"),
    _text("purpose"),
    _text("key"),
    _integer("number"),
    _text("state"),
    _text("messages"),
    _text("answer"),
    _text("error"),
    _integer("prompt_tokens"),
    _integer("completion_tokens"),
    _integer("counted"),
    Column("cost", Float, nullable=False, server_default=text("0")),
    Column("seconds", Float, nullable=False, server_default=text("0")),
    _text("model"),
    _text("created"),
    CheckConstraint("state in ('sent', 'answered', 'failed')", name="known_attempt_state"),
    Index("label_attempts_of_key", "set_id", "key"),
)
