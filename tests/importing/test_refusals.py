"""What does not fit is refused in one sentence that names it, and nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.importing import ImportRefusedError, import_run
from backend.importing.options import ImportOptions
from tests.importing.changing import Changeable

Copy = Callable[..., Changeable]


def _import(run: Changeable, **options: Any) -> Any:
    given: dict[str, Any] = {
        "runs": run.runs,
        "target": run.target,
        "tokenizer": run.tokenizer,
        "offline": True,
    }
    return import_run(run.path, ImportOptions(**(given | options)))


def _refused(run: Changeable, **options: Any) -> ImportRefusedError:
    """The refusal of an import; it leaves nothing behind and is one line."""
    with pytest.raises(ImportRefusedError) as refused:
        _import(run, **options)
    assert run.leftovers() == []
    assert "\n" not in str(refused.value)
    return refused.value


# ---- keys and shapes ------------------------------------------------------------------------------


def _rename(old: str, new: str) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[new] = tensors.pop(old)

    return change


def _cut(name: str) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[name] = tensors[name][:-1].clone()

    return change


def _drop(name: str) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        del tensors[name]

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            _cut("_components.h-0-mlp-c_fc.V"),
            ["_components.h-0-mlp-c_fc.V is [15, 5], not [16, 5]"],
        ),
        (
            _rename("target_model.h.1.rms_1.weight", "target_model.h.1.rms_9.weight"),
            [
                "target_model.h.1.rms_1.weight is missing",
                "target_model.h.1.rms_9.weight does not belong there",
            ],
        ),
        (
            _cut("ci_fn._ci_fns.h-0-mlp-c_fc.layers.0.W"),
            ["ci_fn._ci_fns.h-0-mlp-c_fc.layers.0.W is [15, 7], not [16, 7]"],
        ),
        (
            _rename("_components.h-0-attn-q_proj.U", "_components.h-0-attn-w_proj.U"),
            [
                "_components.h-0-attn-q_proj.U is missing",
                "_components.h-0-attn-w_proj.U does not belong there",
            ],
        ),
        (_rename("target_model.ln_f.weight", "loss_scale"), ["loss_scale does not belong there"]),
        (_drop("target_model.lm_head.weight"), None),
    ],
)
def test_keys_and_shapes_that_disagree_are_named(
    changeable: Copy, change: Callable[[dict[str, Tensor]], None], says: list[str] | None
) -> None:
    run = changeable()
    run.edit_checkpoint(change)
    if says is None:  # the unembedding is the embedding; being told once is enough
        assert _import(run).path.is_dir()
        return
    refused = _refused(run)
    assert "does not fit its configuration" in refused.message
    assert [text for text in says if text not in refused.message] == []


def test_only_the_first_ten_disagreements_are_named(changeable: Copy) -> None:
    run = changeable()
    run.edit(lambda c: c["module_info"].__setitem__(0, c["module_info"][0] | {"C": 50}))
    run.edit_target(lambda c: c.__setitem__("n_embd", 32))
    message = _refused(run).message
    assert message.count(" is [") == 10
    assert " more" in message


def _set(name: str, value: Callable[[dict[str, Tensor]], Tensor]) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[name] = value(tensors)

    return change


def _one_more(tensors: dict[str, Tensor]) -> Tensor:
    return tensors["target_model.wte.weight"] + 1


def _not_a_number(tensors: dict[str, Tensor]) -> Tensor:
    return tensors["_components.h-0-mlp-c_fc.V"] * torch.tensor([1, 1, torch.nan, 1, 1])


def _integers(_: dict[str, Tensor]) -> Tensor:
    return torch.ones(16, dtype=torch.int64)


def _complex(tensors: dict[str, Tensor]) -> Tensor:
    return tensors["target_model.h.0.mlp.c_fc.weight"].to(torch.complex64)


def _sparse(_: dict[str, Tensor]) -> Tensor:
    return torch.ones(16).to_sparse()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_set("target_model.lm_head.weight", _one_more), "lm_head.weight differs from wte.weight"),
        (
            _set("_components.h-0-mlp-c_fc.V", _not_a_number),
            "_components.h-0-mlp-c_fc.V holds values that are not finite",
        ),
        (_set("target_model.ln_f.weight", _integers), "ln_f.weight holds torch.int64"),
        (_set("target_model.ln_f.weight", _sparse), "ln_f.weight is stored sparse"),
        (
            _set("target_model.h.0.mlp.c_fc.weight", _complex),
            "c_fc.weight is stored sparse, quantised or complex",
        ),
    ],
)
def test_values_that_contradict_each_other(
    changeable: Copy, change: Callable[[dict[str, Tensor]], None], says: str
) -> None:
    run = changeable()
    run.edit_checkpoint(change)
    assert says in _refused(run).message


def test_a_bias_of_components_that_is_not_the_targets(changeable: Copy) -> None:
    run = changeable(family="GPT2Simple")
    run.edit_checkpoint(lambda t: t["_components.h-1-mlp-c_fc.bias"].add_(0.25))
    message = _refused(run).message
    assert (
        "the bias of the components of h.1.mlp.c_fc is not the target's; their largest difference is 0.25"
        in message
    )


def test_rotary_frequencies_that_are_not_the_configurations(changeable: Copy) -> None:
    run = changeable(importance="global_shared_transformer")
    run.edit(lambda c: c["ci_config"]["simple_transformer_ci_cfg"]["attn_config"].update(rope_base=500.0))
    assert "rope.inv_freq does not follow from the configuration" in _refused(run).message


# ---- modules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "says"),
    [
        (["h.*.mlp.w_fc"], "the pattern 'h.*.mlp.w_fc' of module_info matches no module of the target"),
        (["H.*.mlp.c_fc"], "the pattern 'H.*.mlp.c_fc' of module_info matches no module"),
        (["h.*.mlp.c_fc", "h.0.*.c_fc"], "h.0.mlp.c_fc is matched twice in module_info"),
        (["h.0.mlp"], "decomposes h.0.mlp, which is no matrix of a LlamaSimpleMLP"),
        (["h.0.rms_1"], "decomposes h.0.rms_1, which is no matrix"),
        (["wte", "h.0.mlp.c_fc"], "decomposes the embedding or unembedding (wte)"),
        (["lm_head", "h.0.mlp.c_fc"], "decomposes the embedding or unembedding (lm_head)"),
        ([], "decomposes no module"),
    ],
)
def test_patterns_that_cannot_be(changeable: Copy, patterns: list[str], says: str) -> None:
    run = changeable()
    run.edit(lambda c: c.__setitem__("module_info", [{"module_pattern": p, "C": 5} for p in patterns]))
    assert says in _refused(run).message


def test_inserted_identities_are_refused_with_the_way_out(changeable: Copy) -> None:
    refused = _refused(changeable(identities={"h.*.attn.q_proj": 3}))
    assert (
        "inserted identities (h.0.attn.q_proj.pre_identity, h.1.attn.q_proj.pre_identity)" in refused.message
    )
    assert refused.hint.endswith("--leave-whole '*.pre_identity'")


def test_modules_of_a_global_importance_function_cannot_be_left_out(changeable: Copy) -> None:
    run = changeable(importance="global_shared_mlp", identities={"h.0.attn.q_proj": 3})
    assert "takes the inputs of all decomposed modules" in _refused(run).hint
    refused = _refused(run, leave_whole=("*.pre_identity",))
    assert "--leave-whole cannot be used here" in refused.message
    assert "h.0.attn.q_proj.pre_identity" in refused.message


def test_leaving_whole_what_is_not_there_or_everything(changeable: Copy) -> None:
    run = changeable()
    assert "--leave-whole h.9.* matches no decomposed module" in _refused(run, leave_whole=("h.9.*",)).message
    assert "names every decomposed module" in _refused(run, leave_whole=("*",)).message


# ---- the target -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["os.system", "spd.pretrain.models.llama.Llama", "transformers.MistralForCausalLM", "LlamaSimpler"],
)
def test_classes_that_are_not_on_the_list(changeable: Copy, name: str) -> None:
    run = changeable()
    run.edit(lambda c: c.__setitem__("pretrained_model_class", name))
    refused = _refused(run)
    assert f"{name!r}, which Tributary does not know; nothing is imported by name" in refused.message
    assert "LlamaSimple, LlamaSimpleMLP, GPT2Simple, GPT2, GPT2LMHeadModel" in refused.hint


def test_the_targets_configuration_is_missing(changeable: Copy) -> None:
    run = changeable()
    refused = _refused(run, target=None)
    assert "(LlamaSimpleMLP, wandb:someone/spd/runs/t-12345678) is not there" in refused.message
    assert "model_config.yaml" in refused.hint
    assert "there is nothing at" in _refused(run, target=run.path / "nowhere").message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"model_type": "GPT2Simple"},
            "decomposes a LlamaSimpleMLP, but the target's configuration is of a GPT2Simple",
        ),
        ({"n_head": 0}, "does not describe a LlamaSimpleMLP: n_head"),
        ({"n_head": 3}, "is not a multiple of n_heads"),
        ({"n_embd": "wide"}, "n_embd"),
        ({"n_layer": 10**9}, "n_layer"),
    ],
)
def test_a_configuration_that_is_not_the_targets(changeable: Copy, change: dict[str, Any], says: str) -> None:
    run = changeable()
    run.edit_target(lambda c: c.update(change))
    assert says in _refused(run).message


def test_norms_with_fixed_standard_deviations(changeable: Copy) -> None:
    run = changeable(family="GPT2Simple")
    (run.target / "ln-stds.json").write_text("{}")
    assert "standard deviations fixed in" in _refused(run).message


def test_a_hugging_face_target_that_is_not_there(changeable: Copy) -> None:
    run = changeable(family="LlamaForCausalLM")
    run.edit(lambda c: c.__setitem__("pretrained_model_name", "someone/a-model"))
    refused = _refused(run, target=None)
    assert "someone/a-model) is not there (nothing is fetched, as --offline asks)" in refused.message
    run.edit(lambda c: c.__setitem__("pretrained_model_class", "transformers.GPT2LMHeadModel"))
    assert "GPT2LMHeadModel" in _refused(run).message


# ---- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sigmoid_type": "softplus"}, "sigmoid_type"),
        ({"sampling": "poisson"}, "sampling"),
        ({"module_info": [{"module_pattern": "h.0.mlp.c_fc"}]}, "module_info.0.C"),
        ({"module_info": "everything"}, "module_info"),
        ({"ci_config": {"mode": "global", "fn_type": "oracle"}}, "does not know the importance function 'oracle'"),
        ({"ci_config": {"mode": "chunkwise", "chunks": 2}}, "(mode 'chunkwise')"),
        ({"ci_config": {"mode": "global", "fn_type": "global_shared_transformer"}}, "lacks simple_transformer_ci_cfg"),
        (
            {"ci_config": {"mode": "global", "fn_type": "global_shared_mlp", "hidden_dims": [7], "extra_input_module_patterns": ["h.0.rms_1"]}},
            "also takes the inputs of modules that are not decomposed (h.0.rms_1)",
        ),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(changeable: Copy, change: dict[str, Any], says: str) -> None:
    run = changeable()
    run.edit(lambda c: c.update(change))
    assert says in _refused(run).message


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ([{"name": "all", "patterns": ["h.0.*"]}], "no group has h.1."),
        ([{"name": "a", "patterns": ["*"]}, {"name": "b", "patterns": ["h.0.*"]}], "belongs to two groups"),
        ([{"name": "a", "patterns": ["*"]}, {"name": "b", "patterns": ["x"]}], "no module is in b"),
    ],
)
def test_groups_of_a_reverse_residual_that_do_not_fit(
    changeable: Copy, groups: list[dict[str, Any]], says: str
) -> None:
    run = changeable(importance="global_reverse_residual")
    run.edit(lambda c: c["ci_config"].__setitem__("block_groups", groups))
    assert says in _refused(run).message


@pytest.mark.parametrize(
    "bomb",
    [
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join(f'*{a}' for _ in range(9))}]\n" for a, b in pairwise("abcdefgh")),
        "a: &a\n  b: *a\n",
    ],
)
def test_configurations_that_aliases_make_endless(changeable: Copy, bomb: str) -> None:
    run = changeable()
    run.config.write_text(bomb + run.config.read_text())
    assert "repeats its values so often" in _refused(run).message


# ---- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../elsewhere", "demo", "", ".hidden", "a/b", "-x"])
def test_names_that_a_run_cannot_have(changeable: Copy, name: str) -> None:
    assert "a run cannot be called" in _refused(changeable(), name=name).message


def test_an_existing_run_is_not_replaced(changeable: Copy) -> None:
    run = changeable()
    (run.runs / "published").mkdir(parents=True)
    (run.runs / "published" / "mine.txt").write_text("kept")
    with pytest.raises(ImportRefusedError, match="there is a run called published already"):
        _import(run)
    assert run.leftovers() == ["published", "published/mine.txt"]


def test_options_that_do_not_fit_what_is_imported(changeable: Copy, tmp_path: Path) -> None:
    run = changeable()
    assert "--into adds dataset attributions" in _refused(run, into="demo").message
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox")
    assert (
        "--text needs a tokenizer, and there is none" in _refused(run, tokenizer=None, text=(text,)).message
    )
    assert "there is no" in _refused(run, tokenizer=tmp_path / "no.json").message
    (tmp_path / "bad.json").write_text("{}")
    assert "is not a tokenizer" in _refused(run, tokenizer=tmp_path / "bad.json").message


def test_a_tokenizer_with_more_tokens_than_the_model(changeable: Copy) -> None:
    run = changeable()
    content = json.loads(run.tokenizer.read_text())
    content["model"]["vocab"]["surplus"] = 4000
    run.tokenizer.write_text(json.dumps(content))
    assert "has tokens up to number 4,000, but the model's vocabulary has 62" in _refused(run).message
