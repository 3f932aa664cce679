"""``tributary decompose CONFIG``: decompose a trained target model, resumable at any step."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict

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
from backend.pipelines.evaluate import evaluate_run, gather_statistics, print_evaluation
from backend.pipelines.train_target import load_target
from compute.decomposition.config import DecompositionConfig
from compute.decomposition.training import DecompositionTrainer, StepReport
from storage.files import write_durably
from storage.run_directory import RunInfo, RunSite, write_run
from storage.statistics import write_statistics


class DecomposeConfig(BaseModel):
    """The file that ``tributary decompose`` reads; paths are relative to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Directory that ``tributary train-target`` wrote.
    target: Path
    #: Run directory to write; while training, the state lies beside it in ``<output>.training``.
    output: Path
    name: str
    title: str
    description: str = ""
    licence: str
    decomposition: DecompositionConfig


def command(
    config_path: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file, see docs/guide.md")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    checkpoint_minutes: Annotated[float, typer.Option(min=0.0, help="Minutes between checkpoints")] = 3.0,
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="Stop at this step and write the run as it is")
    ] = None,
    evaluation_tokens: Annotated[int, typer.Option(min=1, help="Held-out tokens to evaluate on")] = 65_536,
) -> None:
    """Decompose a trained target model. Stop with Ctrl-C; the same command goes on where it stopped."""
    config = read_config(config_path, DecomposeConfig)
    output = (config_path.parent / config.output).resolve()
    if output.exists():
        raise UsageError(f"{output} exists already", "choose another output, or remove it first")
    target_directory = (config_path.parent / config.target).resolve()
    target_info, target, tokenizer, corpus = load_target(target_directory)
    device = choose_device(device)
    try:
        trainer = DecompositionTrainer(target, config.decomposition, corpus.split(validation=False), device)
    except ValueError as error:
        raise UsageError(f"{config_path}: {error}") from error
    work = output.with_name(output.name + ".training")
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = work / "checkpoint.pt"
    fingerprint = (
        f"{config.decomposition.model_dump_json()} {file_hash(target_directory / 'model.safetensors')}"
    )
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
    statistics = gather_statistics(decomposition, corpus)
    made = provenance(
        command="tributary decompose",
        configuration=config.decomposition.model_dump_json(),
        steps=str(trainer.step),
        training_tokens_seen=str(
            trainer.step * config.decomposition.batch_size * config.decomposition.length
        ),
        corpus_sha256=corpus.sha256,
        target_validation_loss=f"{target_info.validation_loss:.6f}",
        target_ngram_loss=f"{target_info.ngram_loss:.6f}",
        target_training=target_info.training.model_dump_json(),
    )
    info = RunInfo(
        name=config.name,
        title=config.title,
        description=config.description,
        licence=config.licence,
        created=made["created"],
        provenance=made,
        target=target_info.model.model_dump(mode="json"),
        importance=decomposition.importance,
        sites=tuple(
            RunSite(
                address=str(address),
                module_path=site.module_path,
                d_in=site.d_in,
                d_out=site.d_out,
                n_components=decomposition.n_components[address],
            )
            for address, site in decomposition.topology.sites.items()
        ),
    )
    tensors = {name: tensor.numpy() for name, tensor in decomposition.export_tensors().items()}
    write_run(output, info, tensors, tokenizer, corpus)
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
