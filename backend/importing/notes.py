"""What everyone who reads an imported run's numbers should know, in full sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backend.importing.families import TargetSource
from backend.importing.settings import ReadSettings
from backend.importing.sites import DecomposedModule
from compute.address import Address
from compute.decomposition.importance_config import ImportanceConfig
from compute.topology import Topology
from storage.run_directory import RunNote


def run_notes(
    read: ReadSettings,
    source: TargetSource,
    modules: Sequence[DecomposedModule],
    importance: ImportanceConfig,
    stored_as: Iterable[str],
    ignored: Sequence[str],
) -> tuple[RunNote, ...]:
    """The notes of a run; ``stored_as`` are the checkpoint's number types other than float32."""
    notes: list[RunNote] = []
    dropped = [module.path for module in modules if module.address is None]
    decomposed = frozenset(module.address for module in modules if module.address is not None)
    whole = Topology(source.config, decomposed).whole
    if whole or dropped:
        notes.append(RunNote(topic="left_whole", text=_left_whole(source, whole, len(decomposed), dropped)))
    if importance.sees_later_tokens:
        notes.append(
            RunNote(
                topic="later_tokens",
                text="The importance function of this run attends to the whole text: the importance of a component "
                "at one token may depend on later tokens, and changes where a text is cut or continued.",
            )
        )
    if read.settings.sampling == "binomial":
        notes.append(
            RunNote(
                topic="sampling",
                text="This run was trained with binomial sampling, which adds noise to the causal importances. "
                "Tributary evaluates them without noise, so every number can be computed again.",
            )
        )
    if not read.settings.use_delta_component:
        notes.append(
            RunNote(
                topic="sampling",
                text="This run was trained without a delta: what its components leave unexplained was never masked in "
                "training. Tributary shows it as the delta of each matrix all the same.",
            )
        )
    notes += [RunNote(topic="converted", text=text) for text in source.converted]
    kinds = sorted(stored_as)
    if kinds:
        notes.append(
            RunNote(
                topic="converted",
                text=f"The checkpoint stores numbers as {' and '.join(kinds)}; they are converted to float32.",
            )
        )
    if ignored:
        notes.append(
            RunNote(
                topic="ignored_settings",
                text="These settings of the configuration say how the run was trained, or are unknown to Tributary, "
                f"and are not used: {', '.join(ignored)}.",
            )
        )
    return tuple(notes)


def _left_whole(
    source: TargetSource, whole: Sequence[Address], n_decomposed: int, dropped: Sequence[str]
) -> str:
    total = n_decomposed + len(whole)
    sentences: list[str] = []
    if whole:
        sentences.append(
            f"{n_decomposed:,} of the model's {total:,} matrices have components. The others are left whole "
            f"({_by_projection(whole, source.config.n_blocks)}): they work as they are, and gradients pass through them."
        )
    if dropped:
        sentences.append(
            f"The run has components for {', '.join(dropped)} too; they are not used, as asked when it was imported."
        )
    return " ".join(sentences)


def _by_projection(addresses: Sequence[Address], n_blocks: int) -> str:
    blocks: dict[str, list[int]] = {}
    for address in addresses:
        assert address.block is not None
        blocks.setdefault(f"{address.kind}.{address.projection}", []).append(address.block)
    parts: list[str] = []
    for name, where in blocks.items():
        if len(where) == n_blocks:
            parts.append(f"{name} of every block" if n_blocks > 1 else name)
        else:
            numbers = ", ".join(str(block) for block in where)
            parts.append(f"{name} of block{'s' if len(where) > 1 else ''} {numbers}")
    return "; ".join(parts)
