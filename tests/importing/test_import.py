"""``tributary import``: what is written, told and noted, and what the options do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from backend.cli import run as tributary
from backend.importing import ImportRefusedError, import_run
from backend.importing.options import ImportedRun, ImportOptions
from backend.pipelines.load import load_decomposition
from compute.address import parse_address
from storage.run_directory import RunDirectory
from tests.importing.changing import CHECKPOINT, Changeable
from tests.support.public import write_public_run

Copy = Callable[..., Changeable]


def _import(run: Changeable, **options: Any) -> ImportedRun:
    given: dict[str, Any] = {
        "runs": run.runs,
        "target": run.target,
        "tokenizer": run.tokenizer,
        "offline": True,
    }
    return import_run(run.path, ImportOptions(**(given | options)))


def _notes(imported: ImportedRun, topic: str) -> list[str]:
    return [note.text for note in imported.notes if note.topic == topic]


def _logits(path: Path, tokens: Tensor) -> Tensor:
    return load_decomposition(RunDirectory.open(path)).clean_pass(tokens)[0]


def test_the_command_tells_what_it_found_and_what_comes_next(
    changeable: Copy, capsys: pytest.CaptureFixture[str]
) -> None:
    run = changeable()
    code = tributary(
        [
            "import",
            str(run.path),
            "--runs",
            str(run.runs),
            "--target",
            str(run.target),
            "--as",
            "mine",
            "--offline",
        ]
    )
    told = capsys.readouterr().out
    assert code == 0
    for text in (
        "layout      A, of the spd code (final_config.yaml)",
        "checkpoint  model_10000.pth, step 10,000",
        "target      LlamaSimpleMLP: 2 blocks of width 16, vocabulary 62",
        "sites       12 of 12 matrices",
        "importance  shared_mlp, sigmoid leaky_hard",
        "tokenizer   it is not beside the run, and nothing is fetched, as --offline asks",
        "warning: There is no tokenizer",
        f"written to {run.runs / 'mine'}; next:",
        f"  tributary serve {run.runs / 'mine'}",
    ):
        assert text in told
    assert tributary(["import", str(run.path), "--runs", str(run.runs), "--as", "mine"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tributary: there is a run called mine already")
    assert error.count("\n") == 1


def test_one_json_document(changeable: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    run = changeable()
    arguments = [
        "import",
        str(run.path),
        "--runs",
        str(run.runs),
        "--target",
        str(run.target),
        "--offline",
        "--json",
    ]
    assert tributary(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"path", "found", "notes", "ignored_settings", "warnings", "next"}
    assert document["path"] == str(run.runs / "published")


def test_where_it_came_from_is_kept(changeable: Copy) -> None:
    run = changeable()
    imported = _import(run, title="A title", licence="MIT")
    info = RunDirectory.open(imported.path).info
    made = info.provenance
    assert (info.title, info.licence, info.kind) == ("A title", "MIT", "model")
    assert made["command"] == "tributary import"
    assert (made["source"], made["source_layout"], made["source_step"]) == ("published", "spd", "10000")
    assert made["source_checkpoint"] == CHECKPOINT
    assert (
        made["source_checkpoint_sha256"] == hashlib.sha256((run.path / CHECKPOINT).read_bytes()).hexdigest()
    )
    assert json.loads(made["source_configuration"])["steps"] == 200_000
    assert [site.source_path for site in info.sites][:2] == ["h.0.attn.q_proj", "h.0.attn.k_proj"]
    assert [check.error for check in RunDirectory.open(imported.path).verify()] == [None, None]
    assert str(run.path.parent) not in (imported.path / "run.json").read_text()


def test_settings_that_are_not_used_are_listed(changeable: Copy) -> None:
    run = changeable()
    run.edit(lambda c: c.update(new_trick={"a": 1}, pretrained_model_seed=3))
    run.edit(lambda c: c["ci_config"].update(temperature=2.0))
    run.edit(lambda c: c["task_config"].update(mixture="web"))
    run.edit_target(lambda c: c.update(rotary_dim=2, dropout=0.1))
    imported = _import(run)
    unknown = {
        "new_trick", "pretrained_model_seed", "ci_config.temperature", "task_config.mixture",
        "model_config.rotary_dim", "model_config.dropout",
    }  # fmt: skip
    assert unknown <= set(imported.ignored_settings)
    assert {"steps", "lr_schedule", "task_config.max_seq_len"} <= set(imported.ignored_settings)
    used = {"module_info", "ci_config", "ci_config.fn_type", "sigmoid_type", "tokenizer_name", "task_config"}
    assert not used & set(imported.ignored_settings)
    (note,) = _notes(imported, "ignored_settings")
    first, _, second = note.partition(". ")
    assert all(path in first for path in unknown)
    assert "steps" in second
    assert "steps" not in first


def test_notes_say_what_changes_the_reading_of_numbers(changeable: Copy) -> None:
    run = changeable(
        family="GPT2Simple",
        importance="global_shared_transformer",
        sampling="binomial",
        sites=["h.0.attn.*", "h.1.mlp.c_fc"],
        stored_as=torch.bfloat16,
    )
    run.edit(lambda c: c.update(use_delta_component=False))
    imported = _import(run)
    (whole,) = _notes(imported, "left_whole")
    assert whole.startswith("5 of the model's 12 matrices have components. The others are left whole")
    assert "(mlp.up of block 0; mlp.down of every block; attn.q, attn.k, attn.v, attn.o of block 1)" in whole
    assert "gradients pass through them" in whole
    assert "may depend on later tokens" in _notes(imported, "later_tokens")[0]
    binomial, no_delta = _notes(imported, "sampling")
    assert "evaluates them without noise" in binomial
    assert "trained without a delta" in no_delta
    assert _notes(imported, "converted") == [
        "The checkpoint stores numbers as bfloat16; they are converted to float32."
    ]
    assert RunDirectory.open(imported.path).info.notes == imported.notes


def test_a_run_that_is_as_it_was_trained_has_no_notes_but_one(changeable: Copy) -> None:
    assert [note.topic for note in _import(changeable()).notes] == ["ignored_settings"]


@pytest.mark.parametrize("normed", [None, False, True])
def test_a_norm_before_the_importances_output_is_kept(changeable: Copy, normed: bool | None) -> None:
    """A setting of newer versions that no tensor shows."""
    run = changeable(importance="global_shared_transformer")
    if normed is not None:
        run.edit(
            lambda c: c["ci_config"]["simple_transformer_ci_cfg"].update(
                final_rms_norm=normed, zero_init_readout=True
            )
        )
    imported = _import(run)
    assert not any("final_rms_norm" in path for path in imported.ignored_settings)
    importance = RunDirectory.open(imported.path).info.importance
    assert importance is not None
    assert importance.transformer is not None
    assert importance.transformer.final_norm is bool(normed)


@pytest.mark.parametrize("grouped", [True, False])
def test_neighbouring_rotary_pairs_are_stored_as_halves(
    tmp_path: Path, changeable: Copy, grouped: bool
) -> None:
    del changeable
    model = {"rotary_adjacent_pairs": True, "use_grouped_query_attention": grouped}
    public = write_public_run(tmp_path / "run", family="LlamaSimple", model=model)
    imported = import_run(public.directory, ImportOptions(runs=tmp_path / "runs", offline=True))
    assert "rotates neighbouring pairs" in _notes(imported, "converted")[0]
    torch.testing.assert_close(
        _logits(imported.path, public.tokens), public.target_logits(), rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("sites", [["h.*.mlp.*", "wte"], ["h.*.mlp.*", "lm_head"]])
def test_modules_without_an_address_are_left_whole_when_asked(tmp_path: Path, sites: list[str]) -> None:
    importance = "mlp" if "wte" in sites else "shared_mlp"
    public = write_public_run(
        tmp_path / "run", importance=importance, sites=sites, identities={"h.1.attn.q_proj": 3}
    )
    options = ImportOptions(runs=tmp_path / "runs", offline=True, leave_whole=("*.pre_identity", sites[-1]))
    imported = import_run(public.directory, options)
    (note,) = _notes(imported, "left_whole")
    assert (
        f"The run has components for {sites[-1]}, h.1.attn.q_proj.pre_identity too; they are not used" in note
    )
    decomposition = load_decomposition(RunDirectory.open(imported.path))
    logits, inputs = decomposition.clean_pass(public.tokens)
    torch.testing.assert_close(logits, public.target_logits(), rtol=0, atol=2e-5)
    assert {str(address) for address in inputs} == {f"{b}.mlp.{p}" for b in (0, 1) for p in ("up", "down")}
    ours = decomposition.causal_importance(inputs)[parse_address("1.mlp.down")]
    torch.testing.assert_close(ours, public.importance()["h.1.mlp.down_proj"], rtol=0, atol=2e-5)


def test_any_decomposed_module_may_be_left_whole(changeable: Copy) -> None:
    imported = _import(changeable(), leave_whole=("h.1.*", "h.0.attn.?_proj"))
    info = RunDirectory.open(imported.path).info
    assert [site.address for site in info.sites] == ["0.mlp.up", "0.mlp.down"]


def test_learned_weights_only_need_the_targets_own(changeable: Copy) -> None:
    run = changeable()
    tokens = torch.arange(12)[None]
    whole = _logits(_import(run, name="whole").path, tokens)

    def drop(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.startswith("target_model.")]:
            del tensors[name]

    run.edit_checkpoint(drop)
    imported = _import(run, name="learned")
    assert torch.equal(_logits(imported.path, tokens), whole)
    assert "learned weights only" in {f.name: f.value for f in imported.found}["checkpoint"]


def test_components_that_are_tied_are_transposes_of_each_other(changeable: Copy) -> None:
    run = changeable(sites={"h.*.attn.*": 5}, layout="B")
    run.edit(lambda c: c["pd"].update(tied_weights=[["h.0.attn.q_proj", "h.0.attn.o_proj"]]))
    imported = _import(run)
    assert not any("tied_weights" in path for path in imported.ignored_settings)
    decomposition = load_decomposition(RunDirectory.open(imported.path))
    q, o = parse_address("0.attn.q"), parse_address("0.attn.o")
    assert torch.equal(decomposition.V(o), decomposition.U(q).T)
    assert torch.equal(decomposition.U(o), decomposition.V(q).T)
    run.edit(lambda c: c["pd"].update(tied_weights=[["h.0.attn.q_proj", "h.0.mlp.c_fc"]]))
    with pytest.raises(ImportRefusedError, match=r"has no _components.h-0-mlp-c_fc.V"):
        _import(run, name="again")


@pytest.mark.parametrize("place", ["run", "target option is a file", "below target", "in the settings"])
def test_where_the_targets_configuration_may_lie(changeable: Copy, place: str) -> None:
    run = changeable()
    config = run.target / "model_config.yaml"
    options: dict[str, Any] = {"target": None}
    if place == "run":
        config.rename(run.path / "model_config.yaml")
    elif place == "target option is a file":
        options["target"] = config
    elif place == "below target":
        options["target"] = run.target / "checkpoints" / "model_step_500.pt"
    else:
        run.edit(
            lambda c: c.update(pretrained_model_name=str(run.target / "checkpoints" / "model_step_500.pt"))
        )
    assert _import(run, **options).path.is_dir()


def test_a_pretraining_configuration_with_the_model_inside(changeable: Copy) -> None:
    run = changeable()
    file = run.target / "model_config.yaml"
    described = yaml.safe_load(file.read_text())
    file.unlink()
    (run.target / "final_config.yaml").write_text(yaml.safe_dump({"seed": 0, "model": described}))
    assert _import(run).path.is_dir()


def test_a_class_without_model_type_and_with_an_old_path(changeable: Copy) -> None:
    run = changeable(layout="A-old")
    run.edit_target(lambda c: c.pop("model_type"))
    assert (
        RunDirectory.open(_import(run).path)
        .info.provenance["target_class"]
        .startswith("simple_stories_train.")
    )


def test_a_tokenizer_beside_the_run_and_a_larger_vocabulary(changeable: Copy) -> None:
    run = changeable(model={"vocab_size": 80})
    run.tokenizer.rename(run.path / "tokenizer.json")
    imported = _import(run, tokenizer=None)
    directory = RunDirectory.open(imported.path)
    assert directory.tokenizer().get_vocab_size() < directory.info.target["vocab_size"] == 80


def test_text_becomes_the_runs_corpus(changeable: Copy, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over a lazy dog")
    run = changeable()
    # The words of the generator have no token that ends a text.
    run.tokenizer.write_text(run.tokenizer.read_text().replace('"word59"', '"<|endoftext|>"'))
    imported = _import(run, text=(text,))
    assert len(RunDirectory.open(imported.path).corpus().tokens) >= 9
    assert not any("tributary text" in line for line in (*imported.warnings, *imported.next_commands))


@pytest.mark.parametrize("name", ["AutoModelForCausalLM", "some.old.place.LlamaForCausalLM"])
def test_hugging_face_classes_by_other_names(changeable: Copy, name: str) -> None:
    run = changeable(family="LlamaForCausalLM")
    run.edit(lambda c: c.update(pretrained_model_class=name))
    assert "LlamaForCausalLM: 2 blocks" in {f.name: f.value for f in _import(run).found}["target"]
