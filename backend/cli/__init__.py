"""The command line ``tributary``: what a user's mistake looks like, and how commands are found.

Commands that need torch are imported when they are called, so that ``--help`` and queries are quick.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from backend.cli.clusters import clusters
from backend.cli.demo import demo
from backend.cli.graph import graph
from backend.cli.label_sets import label_sets
from backend.cli.query import query
from backend.cli.runs import runs
from backend.cli.search import search
from backend.cli.serve import serve
from backend.cli.verify import verify
from backend.version import version

#: Commands that are imported when called: name → module and the line in the list of commands.
_PIPELINES = {
    "import": ("backend.cli.import_run", "Open a decomposition that another program made."),
    "export": ("backend.cli.export", "Write a run's attributions as a published file."),
    "train-target": ("backend.pipelines.train_target", "Train a small target model."),
    "decompose": ("backend.pipelines.decompose", "Decompose a target model into components; resumable."),
    "text": ("backend.pipelines.text", "Give a run that has none its text."),
    "evaluate": ("backend.pipelines.evaluate", "Measure how much of the model the components explain."),
    "attribute": ("backend.pipelines.attribute", "Compute dataset attributions of a run; resumable."),
    "cluster": ("backend.pipelines.cluster", "Group components that are needed together; resumable."),
    "harvest": ("backend.pipelines.harvest", "Gather what every component does over the text; resumable."),
    "harvest-merge": ("backend.pipelines.harvest_merge", "Add up harvests computed in several places."),
    "merge": ("backend.pipelines.merge", "Add up attributions computed in several places."),
    "compact": ("backend.pipelines.compact", "Write a small copy of a run's attributions."),
    "index": ("backend.pipelines.index", "Rank every key's entries, for quick queries of large stores."),
    "label": ("backend.cli.label", "Let a language model label components, and score its labels."),
    "search-index": ("backend.pipelines.search_index", "Index a run's text, so that it can be searched."),
}


class _LateCommand(TyperCommand):
    """A command whose module is imported when it is called or asked for its options."""

    def __init__(self, name: str, module: str, help_line: str) -> None:
        self._module = module
        self._loaded: Any = None
        super().__init__(name, help=help_line)

    def _load(self) -> Any:
        if self._loaded is None:
            import importlib

            late = typer.Typer(add_completion=False)
            late.command(self.name)(importlib.import_module(self._module).command)
            self._loaded = typer.main.get_command(late)
        return self._loaded

    @property
    def params(self) -> Any:
        return self._load().params

    @params.setter
    def params(self, value: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The base class sets it when made; what counts is what the module declares."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        return self._load().make_context(*args, **kwargs)


class _Group(TyperGroup):
    """The commands in the order in which one meets them."""

    ORDER = (
        "demo",
        "serve",
        "runs",
        "query",
        "graph",
        "search",
        "verify",
        "clusters",
        "label-sets",
        *_PIPELINES,
    )

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (module, help_line) in _PIPELINES.items():
            self.add_command(_LateCommand(name, module, help_line))
        self.commands = {name: self.commands[name] for name in self.ORDER}


app = typer.Typer(
    cls=_Group,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Dataset attributions between the components of a decomposed language model.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tributary {version()}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Declares what comes before a command."""


for _command in (demo, serve, runs, query, graph, search, verify):
    app.command()(_command)

app.add_typer(clusters, name="clusters")
app.add_typer(label_sets, name="label-sets")


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0; 1 for damage found; 2 for a user's mistake; 130 for Ctrl-C."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run a command; its exit code. A mistake is one line on standard error that says what to do."""
    try:
        code = app(arguments or ["--help"], prog_name="tributary", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:  # what typer itself refuses
        message = error.format_message().replace("Value error, ", "")
        known = arguments and arguments[0] in _Group.ORDER
        return _refuse(message, f"see tributary {arguments[0]} --help" if known else "see tributary --help")
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader of a pipe has gone (as `| head` does); nothing must be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        known_error = _known(error)
        if known_error is None:
            raise
        code, message, hint = known_error
        _refuse(message, hint)
        return code
    return code if isinstance(code, int) else 0


def _known(error: Exception) -> tuple[int, str, str] | None:
    """Exit code, message and hint of an error that has them; ``None`` for a fault of ours.

    The rooms' error types are imported here, when something has gone wrong: they would slow the start.
    """
    from backend.errors import ServiceError
    from storage.errors import StorageError, StoreDamagedError

    if isinstance(error, StorageError):
        return (1 if isinstance(error, StoreDamagedError) else 2), error.message, error.hint
    if isinstance(error, ServiceError):
        return 2, error.body.message, error.body.hint
    if isinstance(error, OSError):
        return 1, str(error), "check the path, its permissions and the space left on the disk"
    corpus = sys.modules.get("storage.corpus")  # it needs torch; an error of its kind has imported it
    if corpus is not None and isinstance(error, corpus.CorpusError):
        return 2, str(error), ""
    return None


def _refuse(message: str, hint: str) -> int:
    line = f"{message.rstrip('.')}; {hint}" if hint else message
    sys.stderr.write("tributary: " + " ".join(line.split()) + "\n")
    return 2
