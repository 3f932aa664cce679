"""Hugging Face models as targets, against the library ``transformers`` itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from backend.importing.errors import ImportRefusedError
from backend.importing.huggingface import (
    is_hf_directory,
    load_hf_target,
    load_hf_tokenizer,
    read_hf_config,
)
from backend.importing.huggingface_config import hf_source
from compute.address import parse_address

VOCAB = 61
LLAMA: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 48,
}
GPT2: dict[str, Any] = {"vocab_size": VOCAB, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 48}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def llama(**settings: Any) -> LlamaForCausalLM:
    return randomised(LlamaForCausalLM(LlamaConfig(**(LLAMA | settings))))


def qwen2(**settings: Any) -> Qwen2ForCausalLM:
    return randomised(Qwen2ForCausalLM(Qwen2Config(**(LLAMA | settings))))


def gpt2(**settings: Any) -> GPT2LMHeadModel:
    return randomised(GPT2LMHeadModel(GPT2Config(**(GPT2 | settings))))


def randomised(model: Any) -> Any:
    """Norms, biases and everything else away from the values they are initialised with."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=generator) * 0.2 + ("norm" in name or "ln_" in name)
            )
    return model.eval()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(VOCAB, (3, 40), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: gpt2(),
        lambda: gpt2(n_inner=56, activation_function="relu", layer_norm_epsilon=1e-3, tie_word_embeddings=False),
        lambda: gpt2(activation_function="gelu"),
        lambda: llama(),
        lambda: llama(attention_bias=True, mlp_bias=True, head_dim=10, tie_word_embeddings=True),
        lambda: llama(rope_parameters=LLAMA3, num_key_value_heads=1, hidden_act="gelu_pytorch_tanh"),
        lambda: llama(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}),
        lambda: qwen2(tie_word_embeddings=True, rms_norm_eps=1e-3),
        lambda: qwen2(use_sliding_window=True, sliding_window=48, max_window_layers=0),
    ],
    ids=[
        "gpt2", "gpt2 untied", "gpt2 exact gelu", "llama", "llama with biases", "llama3 rope", "linear rope",
        "qwen2", "qwen2 with a window as long as the context",
    ],
)  # fmt: skip
def test_logits_are_those_of_transformers(make: Callable[[], Any], tmp_path: Path, tokens: Tensor) -> None:
    oracle = make()
    oracle.save_pretrained(tmp_path)
    model, source = load_hf_target(tmp_path)
    with torch.no_grad():
        expected = oracle(tokens).logits
        assert expected.abs().max() > 1
        torch.testing.assert_close(model(tokens), expected, rtol=1e-5, atol=1e-5)
    assert is_hf_directory(tmp_path)
    assert read_hf_config(tmp_path) == source.config == model.config
    assert not source.ignored


@pytest.mark.parametrize("make", [gpt2, llama, qwen2])
def test_every_site_is_the_module_of_its_path(make: Callable[[], Any], tmp_path: Path) -> None:
    oracle = make()
    oracle.save_pretrained(tmp_path)
    model, source = load_hf_target(tmp_path)
    assert set(source.sites.values()) == set(model.topology.modules)
    for path, address in source.sites.items():
        weight = oracle.get_submodule(path).weight
        assert torch.equal(model.linear(address).weight, weight.T if make is gpt2 else weight)
        assert source.path_of(address) == path
    assert source.sites[
        "transformer.h.1.attn.c_attn" if make is gpt2 else "model.layers.1.self_attn.o_proj"
    ] == (parse_address("1.attn_fused.qkv" if make is gpt2 else "1.attn.o"))


def test_old_form_of_rotary_settings(tmp_path: Path, tokens: Tensor) -> None:
    oracle = llama(rope_parameters=LLAMA3)
    oracle.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    scaling = content.pop("rope_parameters")
    content["rope_theta"] = scaling.pop("rope_theta")
    content["rope_scaling"] = {"type": scaling.pop("rope_type"), **scaling}
    (tmp_path / "config.json").write_text(json.dumps(content))
    model, _ = load_hf_target(tmp_path)
    torch.testing.assert_close(model(tokens), oracle(tokens).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["sharded", "bin", "sharded bin", "base model", "bfloat16", "buffers"])
def test_forms_of_the_tensors(form: str, tmp_path: Path, tokens: Tensor) -> None:
    oracle = gpt2() if form in ("base model", "buffers") else llama()
    if form == "bfloat16":
        oracle.bfloat16()
    oracle.save_pretrained(tmp_path, max_shard_size="8KB" if form.startswith("sharded") else "1GB")
    single = tmp_path / "model.safetensors"
    if form == "bin":
        torch.save(load_file(single), tmp_path / "pytorch_model.bin")
        single.unlink()
    elif form == "sharded bin":
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        parts = sorted(set(index["weight_map"].values()))
        assert len(parts) > 1
        for part in parts:
            torch.save(load_file(tmp_path / part), tmp_path / part.replace(".safetensors", ".bin"))
            (tmp_path / part).unlink()
        (tmp_path / "model.safetensors.index.json").unlink()
        index["weight_map"] = {k: v.replace(".safetensors", ".bin") for k, v in index["weight_map"].items()}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    elif form == "base model":
        state = {name.removeprefix("transformer."): value for name, value in load_file(single).items()}
        save_file(state, single)
    elif form == "buffers":
        state = load_file(single) | {"transformer.h.0.attn.bias": torch.ones(1, 1, 48, 48).tril()}
        state["lm_head.weight"] = state["transformer.wte.weight"].clone()
        save_file(state, single)
    assert single.is_file() == (not form.startswith("sharded") and form != "bin")
    model, _ = load_hf_target(tmp_path)
    assert model.token_embedding.weight.dtype == torch.float32
    if form == "bfloat16":  # rounding a model rounds its rotary frequencies too, loading it does not
        oracle = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    expected = oracle(tokens).logits
    torch.testing.assert_close(model(tokens), expected, rtol=1e-5, atol=1e-5)


def test_a_shorter_context(tmp_path: Path, tokens: Tensor) -> None:
    oracle = gpt2()
    oracle.save_pretrained(tmp_path)
    model, source = load_hf_target(tmp_path, context=16)
    assert source.config.context == 16
    expected = oracle(tokens[:, :16]).logits
    torch.testing.assert_close(model(tokens[:, :16]), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(
        ImportRefusedError, match="a context of 49 tokens was asked for, but the model takes 48"
    ):
        load_hf_target(tmp_path, context=49)
    qwen2(use_sliding_window=True, sliding_window=16, max_window_layers=1).save_pretrained(tmp_path / "qwen")
    load_hf_target(tmp_path / "qwen", context=16)
    with pytest.raises(ImportRefusedError, match="slides over 16 tokens"):
        load_hf_target(tmp_path / "qwen", context=17)


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (gpt2, {"architectures": ["GPTNeoXForCausalLM"]}, "GPTNeoXForCausalLM.*reads GPT2LMHeadModel, Llama"),
        (gpt2, {"architectures": ["os.system"]}, r"names os\.system"),
        (gpt2, {"architectures": None}, "names no architecture"),
        (gpt2, {"scale_attn_weights": False}, "scale_attn_weights is false"),
        (gpt2, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is true"),
        (gpt2, {"add_cross_attention": True}, "add_cross_attention is true"),
        (gpt2, {"activation_function": "mish"}, 'activation_function is "mish".*Tributary knows silu'),
        (gpt2, {"n_embd": 25}, "d_model 25 is not a multiple of n_heads 3"),
        (gpt2, {"n_embd": "wide"}, 'n_embd is "wide", not a number'),
        (gpt2, {"n_layer": None}, "config.json has no n_layer"),
        (gpt2, {"n_layer": 0}, "cannot be: n_blocks"),
        (gpt2, {"n_layer": 3}, r"has no transformer\.h\.2\.attn\.c_attn\.bias, .* and 9 more"),
        (gpt2, {"n_layer": 1}, r"do not belong to it: transformer\.h\.1\.attn\.c_attn\.bias"),
        (gpt2, {"n_inner": 12}, r"c_fc\.weight has shape \[24, 96\], config\.json says \[24, 12\]"),
        (llama, {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, 'scaled by "yarn".*default, linear and llama3'),
        (llama, {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, 'scaled by "dynamic"'),
        (llama, {"rope_parameters": {"partial_rotary_factor": 0.5}}, "only a share 0.5 of each head"),
        (llama, {"rope_parameters": [1]}, "rope_parameters is not a table"),
        (llama, {"quantization_config": {"bits": 4}}, "its weights are quantised"),
        (llama, {"attention_bias": True}, r"has no model\.layers\.0\.self_attn\.k_proj\.bias"),
        (llama, {"vocab_size": 62}, r"model\.embed_tokens\.weight has shape \[61, 24\], config\.json says \[62, 24\]"),
        (llama, {"tie_word_embeddings": True}, "lm_head.weight differs from model.embed_tokens.weight"),
        (qwen2, {"use_sliding_window": True, "sliding_window": 8}, "slides over 8 tokens"),
    ],
)  # fmt: skip
def test_refusals_of_configurations(
    make: Callable[[], Any], change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    make().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text()) | change
    if "sliding_window" in change:
        content["layer_types"] = ["sliding_attention", "full_attention"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ImportRefusedError) as raised:
        load_hf_target(tmp_path)
    text = f"{raised.value.message}; {raised.value.hint}"
    assert re.search(message, text), text


def test_unknown_settings_are_listed() -> None:
    content = LlamaConfig(**LLAMA).to_dict() | {
        "architectures": ["LlamaForCausalLM"],
        "new_thing": 3,
        "unk_token_id": 0,
        "_private": 1,
    }
    assert hf_source(content).ignored == ("new_thing",)
    assert hf_source(content | {"architectures": None}, "LlamaForCausalLM").class_name == "LlamaForCausalLM"


class _Dangerous:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_refusals_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not is_hf_directory(tmp_path)
    refused(tmp_path, "has no config.json")
    (tmp_path / "config.json").write_text("{")
    refused(tmp_path, "cannot be read")
    llama().save_pretrained(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:100])
    refused(tmp_path, "model.safetensors cannot be read")
    (tmp_path / "model.safetensors").unlink()
    refused(tmp_path, "no model.safetensors and no pytorch_model.bin")
    torch.save({"model.norm.weight": _Dangerous()}, tmp_path / "pytorch_model.bin")
    refused(tmp_path, "holds more than tensors")
    assert not capsys.readouterr().out
    torch.save([torch.ones(1)], tmp_path / "pytorch_model.bin")
    refused(tmp_path, "is not a table of tensors")
    (tmp_path / "pytorch_model.bin").unlink()
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "../elsewhere.safetensors"}}))
    refused(tmp_path, "is no file beside it")
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "part.safetensors"}}))
    refused(tmp_path, "has no part.safetensors")
    index.write_text("[]")
    refused(tmp_path, "cannot be read")
    save_file({"model.norm.weight": torch.ones(24, dtype=torch.int8)}, tmp_path / "model.safetensors")
    refused(tmp_path, "has no lm_head.weight")


def refused(directory: Path, message: str) -> None:
    with pytest.raises(ImportRefusedError, match=message) as raised:
        load_hf_target(directory)
    assert raised.value.hint


def test_tokenizers(tmp_path: Path) -> None:
    with pytest.raises(ImportRefusedError, match=r"there is no tokenizer\.json") as raised:
        load_hf_tokenizer(tmp_path, 10)
    assert "save_pretrained" in raised.value.hint
    Tokenizer(models.WordLevel({"a": 0, "b": 9}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    assert load_hf_tokenizer(tmp_path, 10).get_vocab_size() == 2
    assert load_hf_tokenizer(tmp_path / "tokenizer.json", 10).token_to_id("b") == 9
    with pytest.raises(ImportRefusedError, match="tokens up to number 9, but the model's vocabulary has 9"):
        load_hf_tokenizer(tmp_path, 9)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ImportRefusedError, match="is not a tokenizer"):
        load_hf_tokenizer(tmp_path, 9)


def test_transformers_is_for_tests_only() -> None:
    assert transformers.__version__
    root = Path(__file__).resolve().parents[2]
    for room in ("backend", "compute", "storage"):
        for file in (root / room).rglob("*.py"):
            text = file.read_text()
            assert not re.search(r"\b(import|from) transformers", text), file
