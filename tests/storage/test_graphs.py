"""The graph database: what is kept, what is answered from it, what goes with what, and what is refused."""

from __future__ import annotations

import shutil
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sqlalchemy import create_engine

from storage import graph_columns, journal
from storage.database import MIGRATIONS
from storage.errors import (
    ConflictError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseVersionError,
    InvalidValueError,
    StorageError,
    UnknownRecordError,
)
from storage.graph_columns import DTYPES, Chunk, ColumnError, dense_arrays, pack, sparse_columns, unpack
from storage.graph_records import Group, Note, StoredAmount, Workspace
from storage.graph_schema import HEAD, VERSIONS, metadata
from storage.graphs import GraphDatabase
from storage.journal import choose_journal, file_system
from tests.storage.graph_support import DIGEST, RUN, add_seeded, check_seeded, columns, make_older, same

SETTINGS = {"delta": "node", "threshold": 0.0, "targets": [{"name": "ä", "terms": []}]}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[GraphDatabase]:
    database = GraphDatabase(tmp_path / "graphs.sqlite3")
    yield database
    database.close()


def sql(database: GraphDatabase, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run one statement past the program, as a damaged disk or a careless hand would."""
    connection = sqlite3.connect(database.path)
    with connection:
        rows = connection.execute(statement, values).fetchall()
    connection.close()
    return rows


# ---- prompts ------------------------------------------------------------------------------------


def test_a_prompt_is_kept_once(database: GraphDatabase) -> None:
    first, created = database.add_prompt(RUN, DIGEST, [5, 6, 7], "a b c", "title")
    assert created
    assert (first.token_ids, first.text, first.title, first.graphs) == ((5, 6, 7), "a b c", "title", 0)
    assert database.add_prompt(RUN, DIGEST, np.array([5, 6, 7]), "other text") == (first, False)
    second, created = database.add_prompt(RUN, DIGEST, [5, 6], "a b")
    assert created
    assert database.prompts(RUN, DIGEST) == [second, first]
    assert database.prompts("other", DIGEST) == []
    assert database.rename_prompt(first.id, "new") == database.prompt(first.id)
    assert database.prompt(first.id).title == "new"


def test_what_does_not_exist_is_named(database: GraphDatabase) -> None:
    asked = [
        lambda: database.prompt(7),
        lambda: database.rename_prompt(7, ""),
        lambda: database.delete_prompt(7),
        lambda: database.graphs(7),
        lambda: database.graph(7),
        lambda: database.graph_nodes(7),
        lambda: database.graph_edges(7, ["attr"]),
        lambda: database.update_graph(7, title="x"),
        lambda: database.delete_graph(7),
        lambda: database.workspace(7),
        lambda: database.save_workspace(7, 0, Workspace()),
        lambda: database.circuits(7),
        lambda: database.circuit(7),
        lambda: database.circuit_result(7),
        lambda: database.add_circuit(7, {}, {}, {}, {}),
        lambda: database.delete_circuit(7),
        lambda: database.interventions(7),
        lambda: database.intervention(7),
        lambda: database.intervention_result(7),
        lambda: database.add_intervention(7, {}, {}, {}),
        lambda: database.delete_intervention(7),
        lambda: add_seeded(database, 1, prompt_id=7),
    ]
    for ask in asked:
        with pytest.raises(UnknownRecordError, match=r"there is no (prompt|graph|circuit|intervention) 7"):
            ask()
    with pytest.raises(UnknownRecordError, match="so large an id"):
        database.graph(2**70)


def test_ids_are_never_used_twice(database: GraphDatabase) -> None:
    graph = add_seeded(database, 1)
    database.delete_prompt(graph.prompt_id)
    again = add_seeded(database, 1)
    assert again.id > graph.id
    assert again.prompt_id > graph.prompt_id


# ---- graphs -------------------------------------------------------------------------------------


def test_a_graph_comes_back_as_it_was(database: GraphDatabase) -> None:
    prompt, _ = database.add_prompt(RUN, DIGEST, [1, 2], "a b")
    nodes, edges = columns(3)
    summary = {"omitted": {"edges": 2, "share": 0.125}}
    graph = database.add_graph(
        prompt.id, SETTINGS, None, {"version": "1"}, summary, nodes, edges, status="reduced", note="n"
    )
    assert (graph.run, graph.run_digest, graph.prompt_id, graph.circuit_id) == (RUN, DIGEST, prompt.id, None)
    assert (graph.settings, graph.summary, graph.provenance) == (SETTINGS, summary, {"version": "1"})
    assert (graph.status, graph.note, graph.n_nodes, graph.n_edges) == ("reduced", "n", 40, 300)
    assert 0 < graph.bytes < sum(values.nbytes for values in edges.values()) + 1000
    same(database.graph_nodes(graph.id), nodes)
    same(database.graph_edges(graph.id), edges)
    same(database.graph_edges(graph.id, ["attr"]), {"attr": edges["attr"]})
    with pytest.raises(UnknownRecordError, match="no column 'value'; there are source, target, attr"):
        database.graph_edges(graph.id, ["value"])
    assert database.update_graph(graph.id, title="t").note == "n"
    assert database.update_graph(graph.id, note="").title == "t"
    assert database.graphs(prompt.id) == database.run_graphs(RUN, DIGEST) == [database.graph(graph.id)]
    assert database.prompt(prompt.id).graphs == 1


def test_the_same_request_is_answered_from_what_is_stored(database: GraphDatabase) -> None:
    prompt, _ = database.add_prompt(RUN, DIGEST, [1, 2], "a b")
    nodes, edges = columns(1)
    assert database.find_graph(prompt.id, SETTINGS) is None
    graph = database.add_graph(prompt.id, SETTINGS, None, {}, {}, nodes, edges)
    turned = dict(reversed(SETTINGS.items()))
    assert database.find_graph(prompt.id, turned) == graph
    assert database.add_graph(prompt.id, turned, None, {"later": True}, {}, *columns(2)) == graph
    check = database.graph_edges(graph.id)
    same(check, edges)
    assert database.find_graph(prompt.id, SETTINGS | {"threshold": 0.1}) is None
    # A circuit makes another graph of the same settings, and no circuit is a circuit like another.
    circuit = database.add_circuit(prompt.id, {}, {}, {}, {})
    assert database.find_graph(prompt.id, SETTINGS, circuit.id) is None
    sparse = database.add_graph(prompt.id, SETTINGS, circuit.id, {}, {}, nodes, edges)
    assert sparse.id != graph.id
    assert database.find_graph(prompt.id, SETTINGS, circuit.id) == sparse
    assert database.find_graph(prompt.id, SETTINGS) == graph
    with pytest.raises(sqlite3.IntegrityError, match="one_graph"):
        sql(
            database,
            "INSERT INTO graphs (prompt_id, circuit_id, settings_digest, status) VALUES (?, NULL, ?, 'complete')",
            prompt.id,
            graph.settings_digest,
        )


def test_a_circuit_of_another_prompt_is_refused(database: GraphDatabase) -> None:
    first, _ = database.add_prompt(RUN, DIGEST, [1], "a")
    second, _ = database.add_prompt(RUN, DIGEST, [2], "b")
    circuit = database.add_circuit(first.id, {}, {}, {}, {})
    with pytest.raises(UnknownRecordError, match="prompt 2 has no circuit 1"):
        database.add_graph(second.id, SETTINGS, circuit.id, {}, {}, *columns(1))


def test_a_run_that_was_made_again_does_not_answer_with_old_graphs(database: GraphDatabase) -> None:
    old = add_seeded(database, 1)
    prompt, created = database.add_prompt(RUN, "e" * 64, [1, 2], "prompt 1")
    assert created
    assert database.find_graph(prompt.id, {"seed": 1}) is None
    assert database.prompts(RUN, "e" * 64) == [prompt]
    assert database.run_graphs(RUN, "e" * 64) == []
    new = add_seeded(database, 1, prompt_id=prompt.id)
    expected = StoredAmount(prompts=1, graphs=1, bytes=old.bytes)
    assert database.stale(RUN, "e" * 64) == expected
    assert database.purge_stale(RUN, "e" * 64) == expected
    assert database.stale(RUN, "e" * 64) == StoredAmount(0, 0, 0)
    assert database.run_graphs(RUN, "e" * 64) == [new]
    with pytest.raises(UnknownRecordError):
        database.graph(old.id)


def fill(database: GraphDatabase) -> tuple[int, int, int, int]:
    """One of everything; the ids of prompt, circuit, the graph of that circuit, intervention."""
    prompt, _ = database.add_prompt(RUN, DIGEST, [1, 2], "a b")
    add_seeded(database, 1, prompt_id=prompt.id)
    importance = sparse_columns({"0.attn.q": np.eye(2, 5)})
    circuit = database.add_circuit(prompt.id, {"steps": 3}, {"alive": 2}, {"history": [1, 2]}, importance)
    graph = database.add_graph(prompt.id, SETTINGS, circuit.id, {}, {}, *columns(2))
    intervention = database.add_intervention(graph.id, {"selected": []}, {"kl": 0.5}, {"after": {"ci": []}})
    workspace = Workspace(0, ("embed:0:1",), (Group("g", "G", ("embed:0:1",)),), (Note("", "text"),))
    database.save_workspace(graph.id, 0, workspace)
    return prompt.id, circuit.id, graph.id, intervention.id


def rows(database: GraphDatabase) -> dict[str, int]:
    # What people and models call components hangs on no prompt.
    tables = [table for table in metadata.tables if not table.startswith("label_")]
    return {table: sql(database, f"SELECT count(*) FROM {table}")[0][0] for table in tables}


def test_what_hangs_on_something_goes_with_it(database: GraphDatabase) -> None:
    prompt_id, circuit_id, graph_id, _ = fill(database)
    assert all(rows(database).values())
    database.delete_circuit(circuit_id)
    left = {table for table, count in rows(database).items() if count}
    assert left == {"prompts", "graphs", "chunks"}
    with pytest.raises(UnknownRecordError):
        database.graph(graph_id)
    assert len(database.graphs(prompt_id)) == 1
    database.delete_prompt(prompt_id)
    prompt_id, _, graph_id, intervention_id = fill(database)
    other = add_seeded(database, 9)
    database.delete_graph(graph_id)
    with pytest.raises(UnknownRecordError):
        database.intervention(intervention_id)
    database.delete_prompt(prompt_id)
    assert [graph.id for graph in database.run_graphs(RUN, DIGEST)] == [other.id]
    database.delete_prompt(other.prompt_id)
    assert not any(rows(database).values())
    assert database.verify() == []


def test_circuits_and_interventions(database: GraphDatabase) -> None:
    prompt_id, circuit_id, graph_id, intervention_id = fill(database)
    assert [circuit.id for circuit in database.circuits(prompt_id)] == [circuit_id]
    assert database.circuit(circuit_id).summary == {"alive": 2}
    assert database.circuit_result(circuit_id) == {"history": [1, 2]}
    dense = dense_arrays(database.circuit_importance(circuit_id))
    assert {name: values.tolist() for name, values in dense.items()} == {"0.attn.q": np.eye(2, 5).tolist()}
    assert database.rename_circuit(circuit_id, "c").title == "c"
    assert [found.id for found in database.interventions(graph_id)] == [intervention_id]
    assert database.intervention(intervention_id).request == {"selected": []}
    assert database.intervention_result(intervention_id) == {"after": {"ci": []}}
    assert database.rename_intervention(intervention_id, "i").title == "i"
    database.delete_intervention(intervention_id)
    assert database.interventions(graph_id) == []


def test_lists_do_not_need_the_columns(database: GraphDatabase) -> None:
    graph = add_seeded(database, 1)
    sql(database, "ALTER TABLE chunks RENAME TO away")
    assert database.graphs(graph.prompt_id) == [graph]
    assert database.find_graph(graph.prompt_id, {"seed": 1}) == graph


def test_values_that_cannot_be_kept_are_refused(database: GraphDatabase) -> None:
    prompt, _ = database.add_prompt(RUN, DIGEST, [1], "a")
    nodes, edges = columns(1)
    with pytest.raises(InvalidValueError, match="not JSON compliant"):
        database.add_graph(prompt.id, {"threshold": float("nan")}, None, {}, {}, nodes, edges)
    with pytest.raises(InvalidValueError, match="surrogates not allowed"):
        database.rename_prompt(prompt.id, "\ud800")
    with pytest.raises(InvalidValueError, match="differ in length"):
        database.add_graph(prompt.id, {}, None, {}, {}, nodes, edges | {"attr": edges["attr"][1:]})
    with pytest.raises(InvalidValueError, match="column attr: complex128"):
        database.add_graph(prompt.id, {}, None, {}, {}, nodes, {"attr": np.zeros(3, complex)})
    assert database.graphs(prompt.id) == []


# ---- workspaces ---------------------------------------------------------------------------------


def test_a_workspace_is_replaced_as_a_whole(database: GraphDatabase) -> None:
    graph = add_seeded(database, 1)
    assert database.workspace(graph.id) == Workspace()
    pins = tuple(f"0.attn.q:{position}:3" for position in (5, 1, 3))
    groups = (Group("b", "Zweite", pins[:2]), Group("a", "", ()))
    first = Workspace(0, pins, groups, (Note("", "on the graph"), Note(pins[0], "é 🌊\n")))
    assert database.save_workspace(graph.id, 0, first) == 1
    assert database.workspace(graph.id) == Workspace(1, pins, groups, first.notes)
    with pytest.raises(ConflictError, match=r"saved by someone else \(version 1, not 0\)"):
        database.save_workspace(graph.id, 0, Workspace())
    assert database.save_workspace(graph.id, 1, Workspace(pins=pins[:1])) == 2
    assert database.workspace(graph.id) == Workspace(2, pins[:1])
    for twice in (
        Workspace(pins=("a", "a")),
        Workspace(groups=(Group("a", "", ()), Group("a", "x", ()))),
        Workspace(notes=(Note("a", ""), Note("a", "x"))),
    ):
        with pytest.raises(InvalidValueError, match=r"there are two .* 'a'"):
            database.save_workspace(graph.id, 2, twice)
    assert database.workspace(graph.id) == Workspace(2, pins[:1])


def test_a_save_that_fails_in_its_middle_changes_nothing(database: GraphDatabase) -> None:
    graph = add_seeded(database, 1)
    database.save_workspace(graph.id, 0, Workspace(pins=("a",)))
    with pytest.raises(InvalidValueError, match="surrogates"):
        database.save_workspace(graph.id, 1, Workspace(pins=("b",), notes=(Note("b", "\udfff"),)))
    assert database.workspace(graph.id) == Workspace(1, ("a",))


# ---- columns ------------------------------------------------------------------------------------

arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: npst.arrays(np.dtype(dtype), st.integers(0, 200), elements=None)
)
lists = st.lists(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(), st.none()))


@settings(max_examples=150, deadline=None)
@given(values=st.one_of(arrays, lists), chunk_bytes=st.sampled_from([16, 64, 4096]))
def test_columns_come_back_bit_for_bit(values: np.ndarray | list[Any], chunk_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_columns, "CHUNK_BYTES", chunk_bytes)
        found = unpack(pack("column", values))
    if isinstance(values, list):
        assert found == values
    else:
        assert isinstance(found, np.ndarray)
        assert found.dtype == values.dtype
        assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize("values", [np.arange(6).reshape(2, 3), np.array(["a"]), np.array([1], ">U3")])
def test_what_is_no_column_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"column x: .* cannot be stored"):
        pack("x", values)


def test_other_byte_orders_and_strides_are_kept_as_numbers() -> None:
    values = np.arange(100, dtype=">f8")[::3]
    assert np.array_equal(unpack(pack("x", values)), values)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_piece_is_never_a_number(data: st.DataObject) -> None:
    values = data.draw(arrays)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_columns, "CHUNK_BYTES", 64)
        pieces = pack("column", values)
        number = data.draw(st.integers(0, len(pieces) - 1))
        fields = dict(pieces[number].__dict__)
        field = data.draw(st.sampled_from([*fields, "lost", "twice"]))
        if field == "data":
            place = data.draw(st.integers(0, len(fields["data"]) - 1))
            changed = bytearray(fields["data"])
            changed[place] ^= data.draw(st.integers(1, 255))
            fields["data"] = bytes(changed)
        elif field in ("name", "dtype"):
            fields[field] = data.draw(st.sampled_from(["x", "json", *DTYPES]))
        elif field in fields:
            fields[field] += data.draw(st.sampled_from([-1, 1, 1 << 33, -fields[field]]))
        pieces[number] = Chunk(**fields)
        if field == "lost":
            del pieces[number]
        if field == "twice":
            pieces.insert(number, pieces[number])
        try:
            found = unpack(pieces)
        except ColumnError:
            return
    assert isinstance(found, np.ndarray)
    assert found.dtype == values.dtype
    assert found.tobytes() == values.tobytes()


def test_a_piece_that_grows_without_end_is_stopped() -> None:
    bomb = zlib.compress(bytes(50 << 20), 9)
    honest = pack("x", np.zeros(4, np.float32))[0]
    with pytest.raises(ColumnError, match="column x"):
        unpack([Chunk("x", 0, honest.dtype, honest.length, honest.crc, bomb)])


def test_damage_is_named_and_does_not_reach_other_columns(database: GraphDatabase) -> None:
    graph = add_seeded(database, 1)
    other = add_seeded(database, 2)
    sql(database, "UPDATE chunks SET data = zeroblob(9) WHERE graph_id = ? AND name = 'attr'", graph.id)
    with pytest.raises(DatabaseDamagedError, match="graph 1 is damaged: column attr: piece 0"):
        database.graph_edges(graph.id)
    same(database.graph_edges(graph.id, ["source"]), {"source": columns(1)[1]["source"]})
    check_seeded(database, other.id)
    assert len(database.verify()) == 1
    # A good column that belongs elsewhere, and one that is gone.
    sql(database, "DELETE FROM chunks WHERE graph_id = 1 AND name = 'attr'")
    sql(database, "UPDATE chunks SET graph_id = 1 WHERE graph_id = 2 AND name = 'attr'")
    for ident in (1, 2):
        with pytest.raises(DatabaseDamagedError, match=f"graph {ident} is damaged: the pieces of its edges"):
            database.graph_edges(ident)
    assert len(database.verify()) == 2


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE graphs SET summary = '{\"seed\":2}'", "graph 1 is damaged"),
        ("UPDATE graphs SET n_edges = n_edges + 1", "graph 1 is damaged"),
        ("UPDATE graphs SET columns = '{}'", "graph 1 is damaged"),
        ("UPDATE prompts SET token_ids = '[1,3]'", "prompt 1 is damaged"),
        ("DROP TABLE workspaces", "no such table: workspaces"),
    ],
)
def test_altered_rows_are_named(database: GraphDatabase, statement: str, words: str) -> None:
    add_seeded(database, 1)
    sql(database, statement)
    asked = [
        lambda: database.graph(1),
        lambda: database.graph_nodes(1),
        lambda: database.prompt(1),
        lambda: database.workspace(1),
    ]
    found = []
    for ask in asked:
        try:
            ask()
        except DatabaseDamagedError as error:
            found.append(error.message)
    assert found
    assert all(words in message for message in found)


# ---- opening ------------------------------------------------------------------------------------


def schema(path: Path) -> dict[str, str]:
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%'")
        # A column that was added later is written on the line of the one before.
        return {name: " ".join((statement or "").split()) for name, statement in found}


def test_migrations_make_the_tables_that_the_program_expects(database: GraphDatabase, tmp_path: Path) -> None:
    expected = tmp_path / "expected.sqlite3"
    metadata.create_all(create_engine(f"sqlite:///{expected}"))
    assert schema(database.path) == schema(expected)


def test_versions_are_the_migrations_in_order() -> None:
    revisions = [revision.revision for revision in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
    assert tuple(reversed(revisions)) == VERSIONS


def test_an_older_file_is_brought_up_to_date_with_all_that_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    make_older(path, "0001")
    full = GraphDatabase(tmp_path / "full.sqlite3")
    graph = add_seeded(full, 4)
    full.close()
    with sqlite3.connect(path) as connection:
        connection.execute("ATTACH ? AS full", (str(full.path),))
        for table in ("prompts", "graphs", "chunks"):
            connection.execute(f"INSERT INTO {table} SELECT * FROM full.{table}")
    connection.close()
    database = GraphDatabase(path)
    assert schema(path) == schema(full.path)
    assert check_seeded(database, graph.id) == 4
    assert database.save_workspace(graph.id, 0, Workspace(pins=("a",))) == 1
    assert database.verify() == []


def test_an_upgrade_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.sqlite3"
    make_older(path, "0001")
    before = schema(path)

    class StopError(Exception): ...

    def stop(*_: object) -> None:
        real(*_)
        raise StopError

    real = command.upgrade
    monkeypatch.setattr(command, "upgrade", stop)
    with pytest.raises(StopError):
        GraphDatabase(path)
    assert schema(path) == before
    monkeypatch.undo()
    assert GraphDatabase(path).prompts(RUN, DIGEST) == []


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a b%20?#ü.sqlite3"
    path.parent.mkdir(parents=True)
    path.touch()
    assert add_seeded(GraphDatabase(path), 1).id == 1
    assert [entry.name for entry in path.parent.glob("*.sqlite3")] == [path.name]


def test_a_newer_file_is_refused_by_name(database: GraphDatabase) -> None:
    add_seeded(database, 1)
    sql(database, "UPDATE alembic_version SET version_num = '0099'")
    database.close()
    before = database.path.read_bytes()
    with pytest.raises(
        DatabaseVersionError, match=f"newer Tributary .tables of version 0099, .* up to {HEAD}"
    ):
        GraphDatabase(database.path)
    assert database.path.read_bytes() == before


def test_what_is_no_database_of_ours_is_refused_and_kept(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.sqlite3"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE prompts (id)")
    connection.close()
    made = GraphDatabase(tmp_path / "made.sqlite3")
    add_seeded(made, 1)
    made.close()
    whole = made.path.read_bytes()
    contents = {
        "foreign": foreign.read_bytes(),
        "text": b"notes of a user\n",
        "long text": b"notes of a user\n" * 1000,
        "cut": whole[: len(whole) // 2],
        "cut in its first page": whole[:700],
        "noise": np.random.default_rng(0).bytes(20_000),
        "noise after a header": whole[:100] + np.random.default_rng(0).bytes(20_000),
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.db"
        path.write_bytes(content)
        with pytest.raises(DatabaseDamagedError) as refused:
            check_seeded(GraphDatabase(path), 1)
        assert str(path) in refused.value.message or "graph 1" in refused.value.message, name
        assert path.read_bytes() == content, name
    with pytest.raises(DatabaseError, match="cannot be"):
        GraphDatabase(tmp_path / "text.db" / "graphs.sqlite3")
    with pytest.raises(DatabaseError, match="cannot be used"):
        GraphDatabase(tmp_path)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(data=st.data())
def test_random_damage_to_the_file_is_never_a_wrong_number(tmp_path: Path, data: st.DataObject) -> None:
    whole = tmp_path / "whole.sqlite3"
    if not whole.exists():
        made = GraphDatabase(whole, "delete")
        for seed in range(3):
            add_seeded(made, seed)
        made.close()
    path = tmp_path / "damaged.sqlite3"
    shutil.copy(whole, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content) - 1))
        noise = data.draw(st.binary(min_size=1, max_size=64))
        content[start : start + len(noise)] = noise
    path.write_bytes(content)
    try:
        database = GraphDatabase(path, "delete")
    except StorageError:
        return
    for seed in range(3):
        try:
            assert check_seeded(database, seed + 1) == seed
        except StorageError:
            continue
    database.close()


def test_a_file_that_is_taken_away_while_open_is_missed(database: GraphDatabase, tmp_path: Path) -> None:
    graph = add_seeded(database, 1)
    moved = tmp_path / "moved"
    database.path.rename(moved)
    for ask in (lambda: database.graph(graph.id), lambda: database.rename_prompt(1, "x")):
        with pytest.raises(DatabaseError, match="cannot be found any more"):
            ask()
    shutil.copy(moved, database.path)
    with pytest.raises(DatabaseError, match="was replaced while in use"):
        database.graph(graph.id)


def test_a_full_disk_is_named_and_changes_nothing(database: GraphDatabase) -> None:
    graph = add_seeded(database, 1)
    with database._database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(DatabaseError, match="full"):
        add_seeded(database, 2, n_edges=100_000)
    assert [found.id for found in database.run_graphs(RUN, DIGEST)] == [graph.id]
    assert database.verify() == []


# ---- journals -----------------------------------------------------------------------------------

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /home rw - nfs4 server:/home rw
31 30 0:41 / /home/local\\040disk rw shared:3 - xfs /dev/vdb rw
32 22 0:42 / /mnt rw - tmpfs tmpfs rw
33 22 0:43 / /mnt rw - fuse.sshfs host: rw
malformed
"""


@pytest.mark.parametrize(
    ("folder", "kind", "mode"),
    [
        ("/", "ext4", "wal"),
        ("/homer", "ext4", "wal"),
        ("/home/someone", "nfs4", "delete"),
        ("/home/local disk/x", "xfs", "wal"),
        ("/mnt/x", "fuse.sshfs", "delete"),
    ],
)
def test_network_file_systems_get_no_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, kind: str, mode: str
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert file_system(Path(folder), mounts) == kind
    monkeypatch.setattr(journal, "_try_wal", lambda _: None)
    assert choose_journal(Path(folder) / "graphs.sqlite3", mounts)[0] == mode


def test_where_the_system_names_no_file_systems_the_trial_decides(tmp_path: Path) -> None:
    mode, reason = choose_journal(tmp_path / "x.sqlite3", tmp_path / "missing")
    assert (mode, reason) == ("wal", f"WAL was tried in {tmp_path} and works")
    assert list(tmp_path.iterdir()) == []


def test_where_wal_fails_the_rollback_journal_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_try_wal", lambda _: "disk I/O error")
    database = GraphDatabase(tmp_path / "graphs.sqlite3")
    assert database.journal == "delete"
    assert "failed (disk I/O error)" in database.journal_reason
    graph = add_seeded(database, 1)
    check_seeded(database, graph.id)
    assert [entry.name for entry in tmp_path.iterdir()] == ["graphs.sqlite3"]


def test_a_file_can_change_its_journal(tmp_path: Path) -> None:
    path = tmp_path / "graphs.sqlite3"
    for seed, mode in enumerate(("auto", "delete", "wal", "delete")):
        database = GraphDatabase(path, mode)
        assert database.journal == ("wal" if mode == "auto" else mode)
        assert sql(database, "PRAGMA journal_mode") == [(database.journal,)]
        add_seeded(database, seed)
        database.close()
    assert len(GraphDatabase(path).run_graphs(RUN, DIGEST)) == 4


def test_every_connection_has_its_guards(database: GraphDatabase) -> None:
    for transaction in (database._database.read, database._database.write):
        with transaction() as connection:
            found = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("foreign_keys", "synchronous", "busy_timeout", "journal_mode")
            }
        assert found == {"foreign_keys": 1, "synchronous": 3, "busy_timeout": 30_000, "journal_mode": "wal"}
