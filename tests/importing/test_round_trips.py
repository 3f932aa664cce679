"""What is in a published run arrives, all of it and unchanged, whatever the way it is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from backend.importing import ImportRefusedError, import_run
from backend.importing.options import ImportOptions
from storage.run_directory import RunDirectory
from tests.importing.published import assert_close, import_public, written
from tests.support.public import PublicRun, write_public_run

CASES: dict[str, dict[str, Any]] = {
    "newest": {},
    "old keys": {"layout": "A-old", "importance": "mlp"},
    "layout B": {"layout": "B", "importance": "global_shared_transformer"},
    "reverse residual": {"importance": "global_reverse_residual"},
    "adjacent pairs, biases": {
        "family": "LlamaSimple",
        "layout": "A-per-module",
        "importance": "vector_mlp",
        "model": {"rotary_adjacent_pairs": True, "attn_bias": True, "mlp_bias": True},
    },
    "fused": {"family": "GPT2", "importance": "global_shared_mlp"},
    "hf gpt2": {"family": "GPT2LMHeadModel"},
    "hf qwen2, some matrices": {"family": "Qwen2ForCausalLM", "sites": {"*.mlp.*_proj": 6, "*.q_proj": 5}},
}


def _content(value: Tensor) -> tuple[tuple[int, ...], bytes]:
    """Sizes and values, without regard to the order of either: a matrix may be transposed or permuted."""
    flat = np.sort(value.float().numpy(), axis=None)
    return tuple(sorted(n for n in value.shape if n != 1)), flat.tobytes()


def _required(public: PublicRun) -> dict[str, Tensor]:
    """The published tensors, without those that repeat others or follow from the configuration."""
    tied = public.tensors.get(
        "target_model.lm_head.weight", public.tensors.get("patched_model.lm_head.weight")
    )
    embedding = next(v for k, v in public.tensors.items() if k.endswith(f"{public.embed}.weight"))
    return {
        name: value
        for name, value in public.tensors.items()
        if not name.endswith("inv_freq")
        and not (name.startswith("_components.") and name.endswith(".bias"))
        and not (name.endswith("lm_head.weight") and tied is not None and torch.equal(tied, embedding))
    }


@pytest.mark.parametrize("options", CASES.values(), ids=CASES.keys())
def test_every_published_tensor_arrives(options: dict[str, Any], tmp_path: Path):
    public = write_public_run(tmp_path / "s-1", **options)
    imported = import_public(public)
    stored = {name: torch.from_numpy(value.copy()) for name, value in imported.run.model_tensors().items()}
    ours = {_content(value): name for name, value in stored.items()}
    missing = [name for name, value in _required(public).items() if _content(value) not in ours]
    assert not missing
    # And nothing else was made up: what has no counterpart is the identity before an importance function.
    published = {_content(value) for value in public.tensors.values()}
    for name, value in stored.items():
        if _content(value) not in published:
            assert name.rpartition(".")[2] in ("mean", "scale"), name
            assert torch.equal(value, torch.full_like(value, float(name.endswith("scale"))))


def test_components_keep_their_names_and_numbers(tmp_path: Path):
    public = write_public_run(tmp_path / "s-1", layout="A-old", family="LlamaSimple")
    imported = import_public(public)
    assert {path: str(address) for path, address in imported.addresses.items() if ".1." in path} == {
        "h.1.attn.q_proj": "1.attn.q",
        "h.1.attn.k_proj": "1.attn.k",
        "h.1.attn.v_proj": "1.attn.v",
        "h.1.attn.o_proj": "1.attn.o",
        "h.1.mlp.gate_proj": "1.glu.gate",
        "h.1.mlp.up_proj": "1.glu.up",
        "h.1.mlp.down_proj": "1.glu.down",
    }
    for path, parts in public.model.components.items():
        address = imported.addresses[path]
        assert torch.equal(imported.decomposition.V(address), parts.V)
        assert torch.equal(imported.decomposition.U(address), parts.U)


@pytest.mark.parametrize("importance", ["shared_mlp", "global_shared_mlp", "global_shared_transformer"])
def test_the_order_of_modules_does_not_matter(importance: str, tmp_path: Path):
    public = write_public_run(tmp_path / "s-1", importance=importance)
    first = import_public(public)
    file = public.directory / "final_config.yaml"
    config = yaml.safe_load(file.read_text())
    config["module_info"].reverse()
    file.write_text(yaml.safe_dump(config))
    again = import_public(public, name="again")
    assert again.run.info.sites == first.run.info.sites
    assert again.run.info.files["model.safetensors"] == first.run.info.files["model.safetensors"]
    assert [site.address for site in first.run.info.sites][:4] == [
        "0.attn.q",
        "0.attn.k",
        "0.attn.v",
        "0.attn.o",
    ]


@pytest.mark.parametrize("layout", ["A-newest", "A-old", "B"])
def test_settings_that_nobody_knows_are_listed(layout: str, tmp_path: Path):
    extra = {"frobnication": {"depth": 3}, "new_in_2027": True}
    public = write_public_run(tmp_path / "s-1", layout=layout, extra_config=extra)  # type: ignore[arg-type]
    imported = import_public(public)
    assert {"frobnication", "new_in_2027"} <= {
        path.partition(".")[0] for path in imported.result.ignored_settings
    }
    (note,) = [note for note in imported.run.info.notes if note.topic == "ignored_settings"]
    assert "new_in_2027" in note.text


def test_an_earlier_step_is_another_run(tmp_path: Path):
    public = write_public_run(tmp_path / "s-1")
    last, earlier = import_public(public), import_public(public, name="earlier", checkpoint=900)
    path = public.paths[0]
    assert torch.equal(last.decomposition.V(last.addresses[path]), public.model.components[path].V)
    assert torch.equal(earlier.decomposition.V(last.addresses[path]), public.model.components[path].V + 1)
    assert earlier.run.info.provenance["source_step"] == "900"
    assert last.run.info.provenance["source_step"] == "10000"


def test_inserted_identities_can_be_left_out(tmp_path: Path):
    public = write_public_run(tmp_path / "s-1", identities={"h.*.attn.q_proj": 4}, importance="mlp")
    assert "h.1.attn.q_proj.pre_identity" in public.paths
    with pytest.raises(ImportRefusedError, match="pre_identity"):
        import_public(public)
    assert written(tmp_path / "imported") == []
    imported = import_public(public, leave_whole=("*.pre_identity",))
    kept = [path for path in public.paths if not path.endswith("pre_identity")]
    assert set(imported.addresses) == set(kept)
    importance = public.importance()
    logits, inputs = imported.decomposition.clean_pass(public.tokens)
    assert_close(logits, public.target_logits(), "logits of the target")
    found = imported.decomposition.causal_importance(inputs)
    for path in kept:
        assert_close(found[imported.addresses[path]].detach(), importance[path], path, 1.0)
    masks = {path: importance[path] for path in kept}
    assert_close(imported.masked_logits(masks), public.masked_logits(masks), "masked logits")


def test_a_decomposed_embedding_can_be_left_out(tmp_path: Path):
    sites = {"wte": 4, "h.*.mlp.*": 6}
    public = write_public_run(tmp_path / "s-1", importance="mlp", sites=sites)
    with pytest.raises(ImportRefusedError, match="wte"):
        import_public(public)
    imported = import_public(public, leave_whole=("wte",))
    assert set(imported.addresses) == set(public.paths) - {"wte"}
    importance = public.importance()
    _, inputs = imported.decomposition.clean_pass(public.tokens)
    found = imported.decomposition.causal_importance(inputs)
    for path, address in imported.addresses.items():
        assert_close(found[address].detach(), importance[path], path, 1.0)
    together = write_public_run(tmp_path / "s-2", importance="global_shared_mlp", sites=sites)
    with pytest.raises(ImportRefusedError, match="wte"):
        import_public(together, leave_whole=("wte",))


def test_an_early_run_of_a_hugging_face_model(tmp_path: Path):
    """One block of a Llama, all matrices the same number of components, identities before some of them."""
    chosen = ["model.layers.0.mlp.*_proj", "model.layers.0.self_attn.*_proj"]
    inserted = {"model.layers.0.mlp.gate_proj": 6, "model.layers.0.mlp.down_proj": 6}
    public = write_public_run(
        tmp_path / "s-1",
        family="LlamaForCausalLM",
        layout="A-old",
        sites=dict.fromkeys(chosen, 6),
        identities=inserted,
    )
    assert public.config["gate_type"] == "shared_mlp"
    with pytest.raises(ImportRefusedError, match="pre_identity"):
        import_public(public)
    imported = import_public(public, leave_whole=("*.pre_identity",))
    assert len(imported.addresses) == 7
    masks = {path: g for path, g in public.importance().items() if path in imported.addresses}
    assert_close(imported.masked_logits(masks), public.masked_logits(masks), "masked logits")


def test_two_importances_for_each_component_are_refused_by_name(tmp_path: Path):
    public = write_public_run(tmp_path / "s-1", layout="B", importance="global_shared_transformer")
    file = public.directory / "run_meta.yaml"
    config = yaml.safe_load(file.read_text())
    config["pd"]["dual_hidden_ci"] = True
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(ImportRefusedError, match="dual_hidden_ci"):
        import_public(public)
    assert written(tmp_path / "imported") == []
    config["pd"]["dual_hidden_ci"] = False
    file.write_text(yaml.safe_dump(config))
    assert "pd.dual_hidden_ci" not in import_public(public).result.ignored_settings


@pytest.mark.parametrize(("made_for", "said"), [(8, True), (24, False)])
def test_texts_longer_than_the_importance_function_was_made_for(made_for: int, said: bool, tmp_path: Path):
    attention = {"n_heads": 2, "max_len": made_for, "rope_base": 10_000.0}
    shape = {"d_model": 12, "n_blocks": 1, "mlp_hidden_dim": None, "attn_config": attention}
    public = write_public_run(
        tmp_path / "s-1",
        importance="global_shared_transformer",
        settings={"simple_transformer_ci_cfg": shape},
    )
    (note,) = [n for n in import_public(public).run.info.notes if n.topic == "later_tokens"]
    assert ("at most 8 tokens, and the model reads 24" in note.text) == said


def test_buffers_that_older_libraries_stored_are_no_weights(tmp_path: Path):
    public = write_public_run(tmp_path / "s-1", family="GPT2LMHeadModel")
    file = public.directory / "model_10000.pth"
    tensors = torch.load(file, weights_only=True)
    for block in range(2):
        prefix = f"target_model.transformer.h.{block}.attn"
        tensors[f"{prefix}.bias"] = torch.ones(1, 1, 24, 24).tril().bool()
        tensors[f"{prefix}.masked_bias"] = torch.tensor(-1e4)
    torch.save(tensors, file)
    imported = import_public(public)
    assert_close(imported.decomposition.target(public.tokens), public.target_logits(), "logits")


def test_what_is_missing_can_be_given_or_done_without(tmp_path: Path):
    public = write_public_run(tmp_path / "s-1", target_from="name")
    with pytest.raises(ImportRefusedError) as refused:
        import_run(
            public.directory, ImportOptions(runs=tmp_path / "imported", name="no-target", offline=True)
        )
    assert "--target" in refused.value.hint
    assert written(tmp_path / "imported") == []
    (public.target_directory / "tokenizer.json").unlink()
    imported = import_public(public, tokenizer=None)
    assert imported.run.info.tokenizer is None
    assert imported.result.warnings
    assert_close(imported.decomposition.target(public.tokens), public.target_logits(), "logits")


def test_a_run_needs_only_its_own_directory_once_its_target_is_beside_it(tmp_path: Path):
    public = write_public_run(tmp_path / "s-1")
    result = import_run(public.directory, ImportOptions(runs=tmp_path / "imported"))
    run = RunDirectory.open(result.path)
    assert run.name == "s-1"
    assert run.tokenizer().get_vocab_size() == 60 < run.info.target["vocab_size"] == 62
