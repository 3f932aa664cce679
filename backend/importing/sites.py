"""Which modules of a target a run decomposes, by the patterns of its configuration.

Patterns mean what they mean to the public code: fnmatch over the paths of all modules (``*`` crosses
dots), each pattern matches something, no module is matched twice, and the modules come in the order
of the patterns.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from backend.importing.errors import ImportRefusedError
from backend.importing.families import Source
from backend.importing.settings import ModulePattern, Settings
from compute.address import Address

#: The name of the module that the public code inserts before another to decompose the identity.
PRE_IDENTITY = ".pre_identity"


@dataclass(frozen=True)
class DecomposedModule:
    """A module with components; ``address`` is None where Tributary takes it as whole."""

    path: str
    n_components: int
    address: Address | None


def decomposed_modules(
    source: Source, settings: Settings, leave_whole: tuple[str, ...]
) -> tuple[DecomposedModule, ...]:
    """Every module that has components, in the order of the configuration.

    Raises :class:`ImportRefusedError` for patterns that match nothing or one module twice, and for
    modules that Tributary has no address for, unless ``leave_whole`` names them.
    """
    modules = _modules(source)
    matched = _match(settings.module_info, modules, "module_info")
    identities = _match(settings.identity_module_info, modules, "identity_module_info")
    for path in identities:
        if path not in source.sites and path not in source.embeddings:
            raise ImportRefusedError(f"identity_module_info names {path}, which is no matrix of the target")
    counts = matched | {f"{path}{PRE_IDENTITY}": count for path, count in identities.items()}
    if not counts:
        raise ImportRefusedError("the run's configuration decomposes no module")
    strangers = [
        path
        for path in counts
        if not path.endswith(PRE_IDENTITY) and path not in source.sites and path not in source.embeddings
    ]
    if strangers:
        raise ImportRefusedError(
            f"the configuration decomposes {_names(strangers)}, which {'is' if len(strangers) == 1 else 'are'} "
            f"no matrix of a {source.class_name}",
            f"its matrices are {_names(list(source.sites))}",
        )
    whole = _left_whole(counts, leave_whole, settings)
    unknown = [path for path in counts if path not in source.sites and path not in whole]
    if unknown:
        _refuse(unknown, settings)
    if not set(counts) - whole:
        raise ImportRefusedError("--leave-whole names every decomposed module", "keep at least one")
    return tuple(
        DecomposedModule(path, count, None if path in whole else source.sites[path])
        for path, count in counts.items()
    )


def _modules(source: Source) -> tuple[str, ...]:
    """Paths of all modules that hold parameters, and of what holds them, in the model's order."""
    found: dict[str, None] = {}
    names = [name for parameter in source.tensors.values() for name in (parameter.name, *parameter.copies)]
    for path in (*(name.rpartition(".")[0] for name in names), *source.sites, *source.embeddings):
        parts = path.split(".")
        for length in range(1, len(parts) + 1):
            found[".".join(parts[:length])] = None
    # The order of sites is what the configuration's order is refined by.
    rank = {path: place for place, path in enumerate(source.sites)}
    return tuple(sorted(found, key=lambda path: rank.get(path, -1)))


def _match(patterns: tuple[ModulePattern, ...], modules: tuple[str, ...], field: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    by: dict[str, str] = {}
    for info in patterns:
        paths = [path for path in modules if fnmatchcase(path, info.module_pattern)]
        if not paths:
            raise ImportRefusedError(
                f"the pattern {info.module_pattern[:80]!r} of {field} matches no module of the target",
                "check that the target's configuration is that of the model which was decomposed (--target)",
            )
        for path in paths:
            if path in counts:
                raise ImportRefusedError(
                    f"{path} is matched twice in {field}: by {by[path]!r} and {info.module_pattern[:80]!r}",
                    "the public code refuses this too; keep one of the patterns",
                )
            counts[path], by[path] = info.C, info.module_pattern
    return counts


def _left_whole(counts: dict[str, int], patterns: tuple[str, ...], settings: Settings) -> set[str]:
    whole: set[str] = set()
    for pattern in patterns:
        paths = {path for path in counts if fnmatchcase(path, pattern)}
        if not paths:
            raise ImportRefusedError(
                f"--leave-whole {pattern} matches no decomposed module", f"there are {_names(list(counts))}"
            )
        whole |= paths
    if whole and settings.ci_config.mode == "global":
        raise ImportRefusedError(
            f"--leave-whole cannot be used here: the run's importance function ({settings.ci_config.fn_type}) "
            f"takes the inputs of all decomposed modules, {_names(sorted(whole))} among them",
            "a run with one importance function for each module can be imported in part",
        )
    return whole


def _refuse(unknown: list[str], settings: Settings) -> None:
    identities = [path for path in unknown if path.endswith(PRE_IDENTITY)]
    embeddings = [path for path in unknown if path not in identities]
    what = " and ".join(
        text
        for paths, text in (
            (identities, f"inserted identities ({_names(identities)})"),
            (embeddings, f"the embedding or unembedding ({_names(embeddings)})"),
        )
        if paths
    )
    if settings.ci_config.mode == "global":
        hint = (
            "its importance function takes the inputs of all decomposed modules, so they cannot be left out"
        )
    else:
        options = " ".join(f"--leave-whole '{path}'" for path in _patterns(identities) + embeddings)
        hint = f"import without their components: {options}"
    raise ImportRefusedError(
        f"the run decomposes {what}, for which Tributary has no components on its pages", hint
    )


def _patterns(identities: list[str]) -> list[str]:
    return [f"*{PRE_IDENTITY}"] if identities else []


def _names(paths: list[str], at_most: int = 8) -> str:
    rest = len(paths) - at_most
    return ", ".join(paths[:at_most]) + (f" and {rest:,} more" if rest > 0 else "")
