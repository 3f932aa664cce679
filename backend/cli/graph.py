"""``tributary graph``: the graph of one prompt, without a server."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from backend.cli.options import RUNS, Json, RunArgument, RunsFolder, find_run, visible

if TYPE_CHECKING:
    from backend.service.run import Run
    from compute.attribution.prompt import PromptGraph
    from compute.progress import Report

Delta = Literal["node", "off", "through"]


def graph(
    run_name: RunArgument,
    text: Annotated[str, typer.Option("--text", help="The prompt", show_default=False)],
    delta: Annotated[
        Delta, typer.Option(help="What no component explains: a node, left out, or passed through")
    ] = "node",
    alive_above: Annotated[
        float, typer.Option(min=0, max=1, help="Components with causal importance above this are nodes")
    ] = 0.0,
    output_probability: Annotated[
        float, typer.Option(min=0, max=1, help="Output tokens at least this probable")
    ] = 0.01,
    outputs: Annotated[int, typer.Option(min=0, help="Output tokens at each position at most")] = 5,
    positions: Annotated[
        Literal["last", "all"], typer.Option(help="Positions whose output tokens are targets")
    ] = "last",
    threshold: Annotated[
        float, typer.Option(min=0, help="Leave out edges weaker than this, in units of the target")
    ] = 0.0,
    max_edges: Annotated[
        int | None, typer.Option(min=1, help="Keep only this many edges, the strongest")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, max=1000, help="How many edges to print")] = 20,
    device: Annotated[
        str, typer.Option(envvar="TRIBUTARY_DEVICE", help="cpu, cuda …; auto takes a GPU where there is one")
    ] = "auto",
    folder: RunsFolder = RUNS,
    as_json: Json = False,
) -> None:
    """Compute which components at which positions drive which, for one prompt."""
    from backend.cli.serve import make_settings
    from backend.graph_schemas import GraphSettings
    from backend.memory import total_bytes
    from backend.service.graphs import prompt_settings, refusals
    from backend.service.text import tokenise

    limit = make_settings("127.0.0.1", 0, folder, ()).memory_limit or total_bytes() // 2
    run = find_run(run_name, folder)
    ids = tokenise(run, text)
    settings = GraphSettings(
        delta=delta,
        alive_above=alive_above,
        output_probability=output_probability,
        outputs_at_most=outputs,
        output_positions=positions,
        threshold=threshold,
        max_edges=max_edges,
    )
    # Only now, when nothing is wrong with the question: these need torch.
    from backend.pipelines.common import choose_device
    from backend.service.models import Models
    from backend.service.predictions import token_tensor
    from compute.attribution.prompt import prompt_graph

    model = Models(choose_device(device)).get(run)
    with refusals(), _progress() as report:
        found = prompt_graph(
            model,
            token_tensor(model, ids),
            prompt_settings(settings),
            memory_limit=limit,
            report=report,
        )
    if as_json:
        _print_json(run, found)
    else:
        _print_table(run, found, k)


@contextmanager
def _progress() -> Generator[Report]:
    """A line on standard error that says how far the computation is, while it is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None)

        def report(phase: str, done: int, total: int) -> None:
            bar.update(task, description=phase, completed=done, total=total or None)

        yield report


def _print_json(run: Run, graph: PromptGraph) -> None:
    """One document, whose ``tokens`` are ids; edges are written piece by piece."""
    import json

    from backend.service.exchange import number_texts
    from backend.service.graphs import nullable

    columns = zip(graph.nodes.keys(), nullable(graph.nodes.ci), nullable(graph.nodes.activation), strict=True)
    head = {
        "run": run.name,
        "tokens": graph.tokens.tolist(),
        "delta": graph.settings.delta,
        "nodes": [{"key": key, "ci": ci, "activation": activation} for key, ci, activation in columns],
    }
    write = sys.stdout.write
    write(json.dumps(head, ensure_ascii=False)[:-1] + ', "edges": {')
    for i, name in enumerate(("source", "target", "attr", "attr_abs")):
        write(f'{", " if i else ""}"{name}": [')
        column = getattr(graph.edges, name)
        for start in range(0, len(column), 20_000):
            write(("," if start else "") + ",".join(number_texts(column[start : start + 20_000])))
        write("]")
    omitted = {"edges": graph.omitted.edges, "share": graph.omitted.share}
    write(f'}}, "omitted": {json.dumps(omitted)}, "seconds": {graph.seconds}}}\n')


def _print_table(run: Run, graph: PromptGraph, k: int) -> None:
    """The strongest edges, and how many of how many they are."""
    import numpy as np
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from backend.service.text import token_texts

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    nodes, edges = graph.nodes, graph.edges
    texts = token_texts(run, graph.tokens.tolist())
    console.print(Text(f"{run.name}, delta {graph.settings.delta}: " + "|".join(map(visible, texts))))
    words = {"closed_form": "closed form", "fallback": "batched backward passes"}[graph.method]
    console.print(
        Text(
            f"{len(nodes):,} nodes, {len(edges):,} edges, {graph.seconds:.2f} s, "
            f"{graph.peak_bytes / 2**20:.0f} MiB, {words}"
        )
    )
    if not len(edges):
        return
    strength = edges.attr.astype(np.float64) * nodes.scale[edges.target]
    order = np.argsort(-np.abs(strength), kind="stable")[:k]
    keys = nodes.keys()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("source", "token", "target", "token", "attr", ""):
        table.add_column(name, justify="right" if name == "attr" else "left", no_wrap=True)
    largest = float(np.abs(strength[order[0]])) or 1.0
    for i in order.tolist():
        ends = [int(edges.source[i]), int(edges.target[i])]
        shown = [
            visible(
                _label(run, nodes.addresses[nodes.site[n]], int(nodes.index[n]), texts[nodes.position[n]])
            )
            for n in ends
        ]
        value = float(strength[i])
        bar = "█" * max(1, round(20 * abs(value) / largest))
        row = (keys[ends[0]], shown[0], keys[ends[1]], shown[1])
        table.add_row(*map(Text, row), f"{value:+.4g}", bar)
    console.print(table)
    whole = float(np.abs(strength).sum())
    share = float(np.abs(strength[order]).sum()) / whole if whole else 1.0
    console.print(
        Text(
            f"{len(order):,} of {len(edges):,} edges, {share:.0%} of their sum of |attr|, in units of the "
            "targets' activations"
        )
    )
    if graph.omitted.edges:
        console.print(
            Text(f"{graph.omitted.edges:,} edges were left out, {graph.omitted.share:.2%} of all |attr|")
        )


def _label(run: Run, address: str, index: int, token: str) -> str:
    """The token that a node is about: an output's own, else the one at its position."""
    return run.vocabulary.texts[index] if address == "output" else token
