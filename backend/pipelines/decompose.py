"""``tributary decompose CONFIG``: decompose a trained target model, resumable at any step."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, Field, field_validator

from backend.pipelines.common import (
    UsageError,
    choose_device,
    console,
    load_checkpoint,
    progress,
    provenance,
    read_config,
    save_checkpoint,
)
from backend.pipelines.evaluate import evaluate_run, gather_statistics, print_evaluation
from backend.pipelines.targets import left_whole_notes, open_target
from compute.decomposition.config import DecompositionConfig
from compute.decomposition.training import DecompositionTrainer, StepReport
from storage.files import write_durably
from storage.run_directory import RunInfo, RunSite, write_run
from storage.statistics import write_statistics


class DecomposeConfig(BaseModel):
    """The file that ``tributary decompose`` reads; paths are relative to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Directory that ``tributary train-target`` wrote, or that of a Hugging Face model.
    target: Path
    #: The next five are for a Hugging Face model only; what train-target wrote brings its own text.
    #: Texts to decompose it on: ``.jsonl``, ``.txt``, also with ``.gz``.
    text: tuple[Path, ...] | None = None
    #: Every n-th document is held out for validation.
    validation_every: int | None = Field(default=None, ge=2)
    #: Longest sequence that the run is used with; None: the length of the windows it is trained on.
    context: int | None = Field(default=None, ge=2)
    #: ``tokenizer.json``, where it is not in the model's directory.
    tokenizer: Path | None = None
    #: The token before every document; None: what the tokenizer calls the end of a text.
    separator: str | None = None
    #: Run directory to write; while training, the state lies beside it in ``<output>.training``.
    output: Path
    name: str
    title: str
    description: str = ""
    licence: str
    decomposition: DecompositionConfig

    @field_validator("text", mode="before")
    @classmethod
    def _one_text_or_many(cls, text: object) -> object:
        return (text,) if isinstance(text, str) else text


def command(
    config_path: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file, see docs/guide.md")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    checkpoint_minutes: Annotated[float, typer.Option(min=0.0, help="Minutes between checkpoints")] = 3.0,
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="Stop at this step and write the run as it is")
    ] = None,
    evaluation_tokens: Annotated[int, typer.Option(min=1, help="Held-out tokens to evaluate on")] = 65_536,
    statistics_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens to gather component statistics over; default: all")
    ] = None,
) -> None:
    """Decompose a target model. Stop with Ctrl-C; the same command goes on where it stopped."""
    config = read_config(config_path, DecomposeConfig)
    output = (config_path.parent / config.output).resolve()
    if output.exists():
        raise UsageError(f"{output} exists already", "choose another output, or remove it first")
    work = output.with_name(output.name + ".training")
    given = open_target(config, config_path.parent, work)
    model, corpus = given.model, given.corpus
    device = choose_device(device)
    try:
        trainer = DecompositionTrainer(model, config.decomposition, corpus.split(validation=False), device)
    except ValueError as error:
        raise UsageError(f"{config_path}: {error}") from error
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = work / "checkpoint.pt"
    fingerprint = f"{config.decomposition.fingerprint} {given.fingerprint}"
    if checkpoint.exists():
        if (work / "settings.txt").read_text() != fingerprint:
            raise UsageError(
                f"{checkpoint} belongs to another configuration or target",
                "restore the configuration, or remove the directory to start again",
            )
        trainer.load_state(load_checkpoint(checkpoint))
        console.print(f"going on from step {trainer.step:,}", soft_wrap=True)
    else:
        write_durably(work / "settings.txt", fingerprint.encode())
    _train(trainer, checkpoint, checkpoint_minutes, stop_after)

    decomposition = trainer.decomposition.eval()
    evaluation = evaluate_run(decomposition, corpus, evaluation_tokens)
    statistics = gather_statistics(decomposition, corpus, statistics_tokens)
    made = provenance(
        command="tributary decompose",
        configuration=config.decomposition.model_dump_json(),
        steps=str(trainer.step),
        training_tokens_seen=str(
            trainer.step * config.decomposition.batch_size * config.decomposition.length
        ),
        corpus_sha256=corpus.sha256,
        **given.provenance,
    )
    info = RunInfo(
        name=config.name,
        title=config.title,
        description=config.description,
        licence=config.licence,
        created=made["created"],
        provenance=made,
        target=model.config.model_dump(mode="json"),
        importance=decomposition.importance,
        sites=tuple(
            RunSite(
                address=str(address),
                module_path=site.module_path,
                d_in=site.d_in,
                d_out=site.d_out,
                n_components=decomposition.n_components[address],
                source_path=given.paths.get(address),
            )
            for address, site in decomposition.topology.sites.items()
        ),
        notes=(*given.notes, *left_whole_notes(decomposition.topology)),
    )
    tensors = {name: tensor.numpy() for name, tensor in decomposition.export_tensors().items()}
    write_run(output, info, tensors, given.tokenizer, corpus)
    write_durably(output / "evaluation.json", (evaluation.model_dump_json(indent=2) + "\n").encode())
    write_statistics(output, {n: v.numpy() for n, v in statistics.arrays().items()}, made)
    print_evaluation(evaluation)
    console.print(f"written to {output}; next: tributary attribute {output}", soft_wrap=True)


def _train(trainer: DecompositionTrainer, checkpoint: Path, minutes: float, stop_after: int | None) -> None:
    config = trainer.config
    if config.faithfulness_warmup.steps and not trainer.step:
        with progress("faithfulness warm-up", config.faithfulness_warmup.steps, "step") as update:
            for loss in trainer.warm_up():
                update(trainer.warmup_step, f"{loss:.2e}")
    last = config.steps if stop_after is None else min(stop_after, config.steps)
    saved = time.monotonic()
    with progress("decompose", last, "step", trainer.step) as update:
        if trainer.step >= last:
            return
        try:
            for report in trainer.run():
                if not math.isfinite(report.faithfulness + sum(report.reconstruction)):
                    raise UsageError(
                        f"the loss is not finite at step {report.step}; the last checkpoint is kept",
                        "lower the learning rates and start again",
                    )
                if report.step % 10 == 0 or report.step == last:
                    update(report.step, _note(report))
                if report.step >= last:
                    break
                if time.monotonic() - saved > 60 * minutes:
                    save_checkpoint(checkpoint, trainer.state())
                    saved = time.monotonic()
        except KeyboardInterrupt:
            save_checkpoint(checkpoint, trainer.state())
            console.print(
                f"stopped at step {trainer.step:,}; the same command goes on from there", soft_wrap=True
            )
            raise
    save_checkpoint(checkpoint, trainer.state())


def _note(report: StepReport) -> str:
    terms = " ".join(f"{kl:.3f}" for kl in report.reconstruction)
    return f"KL {terms}  penalty {report.importance_minimality:.0f}  faithfulness {report.faithfulness:.1e}"
