"""What ``tributary decompose`` decomposes: what ``train-target`` wrote, or a local Hugging Face model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from backend.importing.huggingface import is_hf_directory, load_hf_target, load_hf_tokenizer
from backend.importing.huggingface_config import SUPPORTED
from backend.importing.weight_files import weight_files
from backend.pipelines.common import UsageError, console
from backend.pipelines.text import tokenize_files, write_corpus
from backend.pipelines.train_target import load_target
from compute.address import Address
from compute.targets.model import TargetModel
from compute.topology import Topology
from storage.corpus import TokenCorpus
from storage.files import sha256_file
from storage.run_directory import RunNote

if TYPE_CHECKING:
    from backend.pipelines.decompose import DecomposeConfig


@dataclass(frozen=True)
class OpenedTarget:
    """A target model with its tokenizer and text, ready to be decomposed."""

    model: TargetModel
    tokenizer: Tokenizer
    corpus: TokenCorpus
    #: Changes with the model and its text; a training is gone on with only where it is the same.
    fingerprint: str
    #: What ``run.json`` says about it.
    provenance: Mapping[str, str]
    #: The path of each matrix in the model it comes from, where that has other names than ours.
    paths: Mapping[Address, str] = field(default_factory=dict[Address, str])
    notes: tuple[RunNote, ...] = ()


def open_target(config: DecomposeConfig, base: Path, work: Path) -> OpenedTarget:
    """The target of a configuration whose paths are relative to ``base``.

    A text is tokenised once and kept in ``work``. Raises :class:`backend.pipelines.common.UsageError`,
    or what is wrong with the model, the tokenizer or the text, by name.
    """
    directory = (base / config.target).resolve()
    if (directory / "target.json").is_file():
        return _trained(config, directory)
    if is_hf_directory(directory):
        return _hugging_face(config, directory, base, work)
    raise UsageError(
        f"{directory} is neither a trained target model nor a Hugging Face model",
        "run tributary train-target first, or give a directory with the config.json of one of "
        f"{', '.join(SUPPORTED)}",
    )


def _trained(config: DecomposeConfig, directory: Path) -> OpenedTarget:
    for name in ("text", "validation_every", "context", "tokenizer", "separator"):
        if getattr(config, name) is not None:
            raise UsageError(
                f"{name} is for a Hugging Face model, but {directory} brings its own text and tokenizer",
                f"remove {name} from the configuration",
            )
    info, model, tokenizer, corpus = load_target(directory)
    return OpenedTarget(
        model,
        tokenizer,
        corpus,
        sha256_file(directory / "model.safetensors"),
        {
            "target_validation_loss": f"{info.validation_loss:.6f}",
            "target_ngram_loss": f"{info.ngram_loss:.6f}",
            "target_training": info.training.model_dump_json(),
        },
    )


def _hugging_face(config: DecomposeConfig, directory: Path, base: Path, work: Path) -> OpenedTarget:
    if not config.text:
        raise UsageError(
            f"{directory} is a Hugging Face model, which brings no text to decompose it on",
            'name one in the configuration: text = "documents.jsonl.gz"',
        )
    length = config.decomposition.length
    context = config.context or length
    if context < length:
        raise UsageError(
            f"context {context} is shorter than the windows of {length} tokens that are trained on",
            "raise context, or lower length in [decomposition]",
        )
    model, source = load_hf_target(directory, context)
    tokenizer = load_hf_tokenizer(
        directory if config.tokenizer is None else base / config.tokenizer, model.config.vocab_size
    )
    corpus, made_of = _corpus(config, base, work, tokenizer, model.config.vocab_size)
    weights = _digest(sha256_file(file) for file in weight_files(directory))
    notes = [
        RunNote(
            topic="converted",
            text=f"This run uses its model with at most {context:,} tokens at once; the model itself may take more.",
        )
    ]
    if source.ignored:
        ignored = ", ".join(source.ignored)
        notes.append(
            RunNote(
                topic="ignored_settings",
                text=f"Tributary does not know these settings of the model's config.json: {ignored}.",
            )
        )
    return OpenedTarget(
        model,
        tokenizer,
        corpus,
        f"{weights} {made_of} {context}",
        {"target_class": source.class_name, "target_name": directory.name, "target_sha256": weights},
        {address: path for path, address in source.sites.items()},
        tuple(notes),
    )


def _corpus(
    config: DecomposeConfig, base: Path, work: Path, tokenizer: Tokenizer, vocab_size: int
) -> tuple[TokenCorpus, str]:
    """The text as tokens, from ``work`` where an interrupted run left them, and what they were made of."""
    files = [(base / path).resolve() for path in config.text or ()]
    every = config.validation_every or 20
    described = [tokenizer.to_str(), str(every), str(config.separator)]
    made_of = _digest([*described, *(sha256_file(file) for file in files if file.is_file())])
    kept = work / "corpus"
    noted = work / "corpus.txt"
    if kept.is_dir() and noted.is_file() and noted.read_text() == made_of:
        return TokenCorpus.load(kept), made_of
    if kept.exists():
        raise UsageError(
            f"{kept} was made of another text or in another way",
            f"restore the configuration, or remove {work} to start again",
        )
    work.mkdir(parents=True, exist_ok=True)
    with console.status("tokenising the text"):
        corpus = tokenize_files(files, tokenizer, vocab_size, every, config.separator)
    noted.write_text(made_of)
    write_corpus(corpus, kept)
    return corpus, made_of


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode())
    return digest.hexdigest()


def left_whole_notes(topology: Topology) -> tuple[RunNote, ...]:
    """That only some matrices are decomposed, where that is so."""
    if not topology.whole:
        return ()
    return (
        RunNote(
            topic="left_whole",
            text=f"{len(topology.sites):,} of the model's {len(topology.modules):,} matrices have components. "
            "The others are left whole: they work as they are, and gradients pass through them.",
        ),
    )
