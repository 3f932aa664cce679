"""``tributary train-target CONFIG``: train a small target model on a text, resumable at any step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from backend.pipelines.common import (
    UsageError,
    choose_device,
    console,
    file_hash,
    load_checkpoint,
    progress,
    provenance,
    read_config,
    save_checkpoint,
)
from compute.targets.config import TargetConfig
from compute.targets.export import export_target, import_target
from compute.targets.model import TargetModel
from compute.targets.ngram import ngram_cross_entropy
from compute.targets.training import TargetTrainer, TargetTrainingConfig, validation_loss
from storage.corpus import CorpusError, TokenCorpus, read_documents, tokenize, train_tokenizer
from storage.files import write_durably

#: The yardstick: an n-gram model of this order, counted on the training split.
NGRAM_ORDER = 5


class TrainTargetConfig(BaseModel):
    """The file that ``tributary train-target`` reads; paths are relative to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Documents, one ``{"title", "source", "text"}`` a line, ``.jsonl`` or ``.jsonl.gz``.
    text: Path
    #: Every n-th document is held out for validation.
    validation_every: int = Field(default=20, ge=2)
    #: Directory that the trained model is written to.
    output: Path
    model: TargetConfig
    training: TargetTrainingConfig


class TargetInfo(BaseModel):
    """``target.json`` of a trained target model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["tributary-target"] = "tributary-target"
    version: Literal[1] = 1
    model: TargetConfig
    training: TargetTrainingConfig
    #: Nats per token over the whole validation split.
    validation_loss: float
    #: The same for an interpolated Kneser–Ney model of order ``ngram_order``.
    ngram_loss: float
    ngram_order: int
    unigram_loss: float
    provenance: dict[str, str]


def load_target(directory: Path) -> tuple[TargetInfo, TargetModel, Tokenizer, TokenCorpus]:
    """Read what :func:`command` wrote; raises :class:`UsageError` or :class:`CorpusError`."""
    try:
        info = TargetInfo.model_validate_json((directory / "target.json").read_bytes())
        model = import_target(info.model, load_file(directory / "model.safetensors"))
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    except FileNotFoundError as error:
        raise UsageError(
            f"{directory} is not a trained target model: {error.filename} is missing",
            "run tributary train-target first",
        ) from error
    except Exception as error:
        raise UsageError(f"{directory} cannot be read: {str(error)[:200]}", "train it again") from error
    return info, model.eval(), tokenizer, TokenCorpus.load(directory / "corpus")


def command(
    config_path: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file, see docs/guide.md")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints")] = 250,
) -> None:
    """Train a small target model. Stop with Ctrl-C; the same command goes on where it stopped."""
    config = read_config(config_path, TrainTargetConfig)
    output = (config_path.parent / config.output).resolve()
    if (output / "target.json").exists():
        raise UsageError(
            f"{output} holds a trained model already", "choose another output, or remove it first"
        )
    output.mkdir(parents=True, exist_ok=True)
    _, corpus = _prepare_text(config, config_path, output)
    train, held_out = corpus.split(validation=False), corpus.split(validation=True)
    if len(train) <= config.training.length:
        raise CorpusError(f"the text has only {len(train)} training tokens, fewer than one window")

    trainer = TargetTrainer(config.model, config.training, train, choose_device(device))
    checkpoint = output / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load_state(load_checkpoint(checkpoint))
        console.print(f"going on from step {trainer.step:,}", soft_wrap=True)
    steps = config.training.steps
    with progress("target", steps, "step", trainer.step) as update:
        try:
            for report in trainer.run():
                if not math.isfinite(report.loss):
                    raise UsageError(
                        f"the loss is not finite at step {report.step}", "lower the learning rate"
                    )
                update(report.step, f"loss {report.loss:.3f}")
                if report.step % checkpoint_every == 0:
                    save_checkpoint(checkpoint, trainer.state())
        finally:
            if trainer.step:
                save_checkpoint(checkpoint, trainer.state())

    loss = validation_loss(trainer.model.eval(), held_out, config.training.length)
    vocab = config.model.vocab_size
    info = TargetInfo(
        model=config.model,
        training=config.training,
        validation_loss=loss,
        ngram_loss=ngram_cross_entropy(train.numpy(), held_out.numpy(), NGRAM_ORDER, vocab),
        ngram_order=NGRAM_ORDER,
        unigram_loss=ngram_cross_entropy(train.numpy(), held_out.numpy(), 1, vocab),
        provenance=provenance(
            command="tributary train-target",
            text_sha256=file_hash(config_path.parent / config.text),
            corpus_sha256=corpus.sha256,
            training_tokens=str(len(train)),
            validation_tokens=str(len(held_out)),
        ),
    )
    save_file(export_target(trainer.model), output / "model.safetensors")
    write_durably(output / "target.json", (info.model_dump_json(indent=2) + "\n").encode())
    checkpoint.unlink()
    console.print(
        f"validation: {loss:.4f} nats per token; {NGRAM_ORDER}-gram {info.ngram_loss:.4f}, "
        f"unigram {info.unigram_loss:.4f} (the same {len(held_out):,} tokens)"
    )
    console.print(f"written to {output}", soft_wrap=True)


def _prepare_text(
    config: TrainTargetConfig, config_path: Path, output: Path
) -> tuple[Tokenizer, TokenCorpus]:
    """Tokenizer and tokens, from ``output`` where an interrupted run left them."""
    if (output / "corpus" / "documents.json").exists():
        return Tokenizer.from_file(str(output / "tokenizer.json")), TokenCorpus.load(output / "corpus")
    documents = read_documents(config_path.parent / config.text)
    tokenizer = train_tokenizer(documents, config.model.vocab_size)
    if tokenizer.get_vocab_size() != config.model.vocab_size:
        raise UsageError(
            f"the text yields only {tokenizer.get_vocab_size()} tokens, not the {config.model.vocab_size} asked for",
            "lower vocab_size (not below 257), or give more text",
        )
    tokenizer.save(str(output / "tokenizer.json"))
    corpus = tokenize(documents, tokenizer, config.validation_every)
    corpus.save(output / "corpus")
    return tokenizer, corpus
