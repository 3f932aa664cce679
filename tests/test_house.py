"""The house in order: links, import directions, pinned versions, and documents that name what exists."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import get_args

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("demo/*.md")])
ROOMS = ("compute", "storage", "backend")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# ---- documents ----------------------------------------------------------------------------------


def _without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def _anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to a document's headings."""
    headings = re.findall(r"^#+ +(.+?) *$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_relative_link_resolves(document: Path) -> None:
    broken: list[str] = []
    for link in re.findall(r"\]\(([^)\s]+)\)", _without_code(document.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (document.parent / target).resolve() if target else document
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            broken.append(link)
    assert broken == []


def test_the_index_lists_every_document() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    missing = [path.name for path in (ROOT / "docs").glob("*.md") if f"]({path.name}" not in index]
    assert [name for name in missing if name != "README.md"] == []


def _code(document: Path) -> Iterator[str]:
    """Every line of the code blocks (continued lines joined), and every inline piece of code."""
    text = document.read_text(encoding="utf-8")
    for block in re.findall(r"^ *```[a-z]*\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL):
        yield from (line.strip() for line in block.replace("\\\n", " ").splitlines())
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (piece.strip() for piece in re.findall(r"`([^`]+)`", prose))


def _options(command: object) -> set[str]:
    """The long and short options of a command, read from its parameters."""
    parameters = getattr(command, "params", [])
    return {"--help"} | {option for p in parameters for option in (*p.opts, *p.secondary_opts)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_documents_name_only_commands_and_options_that_exist(document: Path) -> None:
    from backend.cli import app

    wrong: list[str] = []
    for code in _code(document):
        if not re.match(r"(\$ )?tributary [a-z-]", code):
            continue
        words = shlex.split(code.removeprefix("$ "), comments=True)[1:]
        for end in ("|", ">", "&", "&&", ";"):
            words = words[: words.index(end)] if end in words else words
        command: object = typer.main.get_command(app)
        allowed = _options(command)
        for word in words:
            children = getattr(command, "commands", None)
            if children is not None and not word.startswith("-"):
                if word not in children:
                    # `query RUN sources KEY`: a group may take arguments before its command.
                    if any(
                        getattr(p, "param_type_name", "") == "argument"
                        for p in getattr(command, "params", [])
                    ):
                        continue
                    wrong.append(f"{word} in: {code}")
                    break
                command = children[word]
                allowed |= _options(command)
            option = word.partition("=")[0]
            if re.match(r"--?[a-zA-Z]", option) and option not in allowed:
                wrong.append(f"{option} in: {code}")
    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_documents_name_only_make_targets_that_exist(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = {match[1] for code in _code(document) if (match := re.match(r"(?:\$ )?make ([a-z-]+)", code))}
    assert named <= targets


# ---- import directions --------------------------------------------------------------------------


def _imports(path: Path) -> Iterator[str]:
    """Absolute names of the modules that a file imports; ``from a import b`` counts as ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def _offenders(room: str, forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{_name(path)} imports {name}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for name in _imports(path)
        if _within(name, *forbidden) and not _within(name, *allowed)
    ]


def test_compute_knows_no_files_no_http_no_sql() -> None:
    assert (
        _offenders("compute", ("storage", "backend", "fastapi", "starlette", "sqlalchemy", "typer", "rich"))
        == []
    )


def test_storage_knows_only_what_compute_describes_and_nothing_of_the_service() -> None:
    forbidden = ("compute", "backend", "fastapi", "starlette", "typer", "rich")
    # Neither needs torch.
    described = ("compute.address", "compute.decomposition.importance_config")
    assert _offenders("storage", forbidden, allowed=described) == []


def test_pipelines_know_nothing_of_the_service() -> None:
    # The wire models are shared: what a pipeline writes is what the service sends.
    forbidden = ("backend", "fastapi", "starlette", "uvicorn")
    assert (
        _offenders(
            "backend/pipelines",
            forbidden,
            allowed=(
                "backend.pipelines",
                "backend.importing",  # what a target may be is read there
                "backend.schemas",
                "backend.run_schemas",
                "backend.version",
            ),
        )
        == []
    )


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_unpickles(room: str) -> None:
    assert _offenders(room, ("pickle", "dill", "joblib", "cloudpickle", "marshal", "shelve")) == []


# ---- versions -----------------------------------------------------------------------------------


def _pins() -> dict[str, Version]:
    pins: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pins[canonicalize_name(name)] = Version(version)
    return pins


def _closure(requirements: list[str], extras: set[str]) -> dict[str, metadata.Distribution]:
    """The installed distributions that ``requirements`` need on this machine, and theirs in turn.

    What a distribution itself pins exactly (torch its CUDA libraries) needs no pin of ours.
    """
    found: dict[str, metadata.Distribution] = {}
    waiting = [(Requirement(text), extras) for text in requirements]
    while waiting:
        requirement, wanted = waiting.pop()
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in wanted | {""}):
            continue
        name = canonicalize_name(requirement.name)
        exact = any(specifier.operator == "==" for specifier in requirement.specifier)
        if exact and name not in _pins():
            continue
        known = name in found
        if known and not requirement.extras:
            continue
        found[name] = metadata.distribution(name)
        waiting += [(Requirement(text), requirement.extras) for text in found[name].requires or []]
    return found


def test_constraints_pin_everything_that_is_installed() -> None:
    requirements = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    pins = _pins()
    installed = {
        name: Version(distribution.version).public
        for name, distribution in _closure(requirements, {"dev"}).items()
    }
    assert {name: str(pins.get(name)) for name in installed} == installed


def test_pins_agree_with_the_ranges() -> None:
    pins = _pins()
    for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


#: Modules whose distribution has another name.
_DISTRIBUTIONS = {"pydantic_settings": "pydantic-settings", "_pytest": "pytest", "yaml": "pyyaml"}
#: Come with another dependency on purpose: starlette is what fastapi is made of, click what typer is,
#: and tokenizers fetches with huggingface_hub.
_CARRIED = {
    "starlette": "fastapi",
    "pydantic_core": "pydantic",
    "click": "typer",
    "huggingface_hub": "tokenizers",
}


def test_every_import_is_a_declared_dependency() -> None:
    import sys

    declared = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    undeclared: list[str] = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for name in _imports(path):
                top = name.partition(".")[0]
                if top in ROOMS or top in sys.stdlib_module_names:
                    continue
                distribution = _CARRIED.get(top, _DISTRIBUTIONS.get(top, top))
                if canonicalize_name(distribution) not in declared:
                    undeclared.append(f"{_name(path)} imports {top}")
    assert undeclared == []


def test_one_version_everywhere() -> None:
    for name in ("package.json", "package-lock.json"):
        page = json.loads((ROOT / "frontend" / name).read_text(encoding="utf-8"))
        assert page["version"] == PROJECT["version"]


# ---- settings -----------------------------------------------------------------------------------


def _fields(model: type[BaseModel]) -> Iterator[str]:
    """Names of all fields of a settings file, those of nested models included."""
    for name, field in model.model_fields.items():
        yield name
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _fields(part)


def test_the_guide_describes_every_setting() -> None:
    from backend.pipelines.decompose import DecomposeConfig
    from backend.pipelines.train_target import TrainTargetConfig

    described = set(re.findall(r"\w+", " ".join(_code(ROOT / "docs" / "guide.md"))))
    assert {*_fields(TrainTargetConfig), *_fields(DecomposeConfig)} - described == set()
