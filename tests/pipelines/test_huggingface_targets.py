"""``tributary decompose`` of a Hugging Face directory, and ``tributary text``, through the command line."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, processors
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import backend.pipelines.decompose as pipeline
from backend.cli import run as tributary
from backend.pipelines.load import load_decomposition
from backend.pipelines.text import add_text, tokenize_files
from compute.decomposition.config import DecompositionConfig
from compute.targets.config import TargetConfig
from compute.targets.model import TargetModel, Trace
from compute.topology import Topology
from storage.corpus import CorpusError, Document, TokenCorpus, documents_of, tokenize, train_tokenizer
from storage.run_directory import RunDirectory
from tests.support.tiny_run import TEXT, make_tiny_run

CONFIG = """
target = "model"
text = "documents.jsonl"
validation_every = 5
output = "run"
name = "tiny"
title = "Tiny"
licence = "MIT"
context = 16
[decomposition]
steps = 6
batch_size = 4
length = 12
sites = ["1.glu.*", "*.attn.o"]
importance_kind = "shared_mlp"
importance_hidden = [8]
faithfulness = 1.0
importance_minimality = { coefficient = 1e-3 }
components_rate = { peak = 1e-3 }
importance_rate = { peak = 1e-3 }
[decomposition.components]
o = 4
gate = 5
up = 5
down = 5
"1.glu.down" = 7
[[decomposition.reconstruction]]
masks = "ci"
routing = "subset"
sequences = 4
coefficient = 1.0
"""
VOCAB = 280
DOCUMENTS = [Document(f"text {i}", "here", " ".join(TEXT.split()[i % 5 :]) * 3) for i in range(40)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(DOCUMENTS, VOCAB)


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A configuration, a text and a Llama model as ``transformers`` writes it."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
    records = [json.dumps({"title": d.title, "text": d.text}) for d in DOCUMENTS]
    (tmp_path / "documents.jsonl").write_text("\n".join(records))
    write(tmp_path)
    return tmp_path


def write(folder: Path, *changes: tuple[str, str]) -> None:
    text = CONFIG
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "config.toml").write_text(text)


def decompose(folder: Path, *options: str) -> int:
    return tributary(["decompose", str(folder / "config.toml"), "--evaluation-tokens", "64", *options])


def test_decompose_attribute_and_a_prompt_graph(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert decompose(folder) == 0, capsys.readouterr().err
    run = RunDirectory.open(folder / "run")
    assert {site.address: (site.n_components, site.source_path) for site in run.info.sites} == {
        "0.attn.o": (4, "model.layers.0.self_attn.o_proj"),
        "1.attn.o": (4, "model.layers.1.self_attn.o_proj"),
        "1.glu.gate": (5, "model.layers.1.mlp.gate_proj"),
        "1.glu.up": (5, "model.layers.1.mlp.up_proj"),
        "1.glu.down": (7, "model.layers.1.mlp.down_proj"),
    }
    assert [note.topic for note in run.info.notes] == ["converted", "left_whole"]
    assert "5 of the model's 14 matrices" in run.info.notes[1].text
    assert run.info.provenance["target_class"] == "LlamaForCausalLM"
    assert run.info.target["context"] == 16

    # The model in the run is the one in the directory, and its components are near enough to try.
    decomposition = load_decomposition(run)
    tokens = torch.randint(VOCAB, (2, 16), generator=torch.Generator().manual_seed(0))
    oracle = LlamaForCausalLM.from_pretrained(folder / "model")
    with torch.no_grad():
        expected = oracle(tokens).logits
        torch.testing.assert_close(decomposition.target(tokens), expected, rtol=1e-5, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in decomposition.target.parameters())
    assert decomposition.target.unembedding.weight is decomposition.target.token_embedding.weight
    evaluation = run.evaluation()
    assert evaluation is not None
    assert [block["block"] for block in evaluation["blocks"]] == [0, 1]

    path = str(folder / "run")
    assert tributary(["attribute", path, "--batches", "2", "--batch-size", "2"]) == 0
    store = RunDirectory.open(folder / "run").attributions()
    assert store.verify() > 0
    capsys.readouterr()
    assert tributary(["graph", path, "--text", "the fox", "--json"]) == 0
    graph = json.loads(capsys.readouterr().out)
    kinds = {node["key"].partition(":")[0] for node in graph["nodes"]}
    assert kinds >= {"embed", "0.attn.o", "1.glu.down", "output"}
    assert tributary(["verify", path]) == 0


def test_a_stopped_training_goes_on_exactly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert decompose(folder) == 0
    whole = RunDirectory.open(folder / "run").model_tensors()
    expected = {name: np.array(value) for name, value in whole.items()}
    write(folder, ('output = "run"', 'output = "again"'))
    kept = pipeline.DecompositionTrainer.run

    def interrupted(self: Any) -> Iterator[Any]:
        for report in kept(self):
            yield report
            if report.step == 3:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.DecompositionTrainer, "run", interrupted)
        assert decompose(folder) == 130
    assert not (folder / "again").exists()
    state = torch.load(folder / "again.training" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 3
    assert not any(name.startswith("target.") for name in state["decomposition"]), "it never changes"
    assert decompose(folder) == 0
    again = RunDirectory.open(folder / "again").model_tensors()
    assert set(expected) == set(again)
    for name, value in again.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_what_an_interrupted_training_was_made_of_must_stay(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = folder / "run.training"
    write(folder, ("importance_hidden = [8]", "importance_hidden = []"))
    decompose(folder)
    capsys.readouterr()
    (folder / "documents.jsonl").write_text(json.dumps({"text": TEXT}))
    assert (training / "corpus").is_dir()
    write(folder, ('output = "run"', 'output = "other/../run"'))
    shutil.rmtree(folder / "run")
    assert decompose(folder) == 2
    assert "was made of another text" in capsys.readouterr().err


def test_gpt2_with_fused_attention(folder: Path, tokenizer: Tokenizer) -> None:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3
    )
    GPT2LMHeadModel(config).save_pretrained(folder / "gpt2")
    tokenizer.save(str(folder / "elsewhere.json"))
    write(
        folder,
        ('target = "model"', 'target = "gpt2"\ntokenizer = "elsewhere.json"'),
        ('sites = ["1.glu.*", "*.attn.o"]', 'sites = ["0.attn_fused.qkv", "1.*"]'),
        ("gate = 5", "qkv = 9"),
        ('"1.glu.down" = 7', ""),
    )
    assert decompose(folder) == 0
    run = RunDirectory.open(folder / "run")
    assert [site.source_path for site in run.info.sites] == [
        "transformer.h.0.attn.c_attn",
        "transformer.h.1.attn.c_attn",
        "transformer.h.1.attn.c_proj",
        "transformer.h.1.mlp.c_fc",
        "transformer.h.1.mlp.c_proj",
    ]
    assert tributary(["attribute", str(folder / "run"), "--batches", "1", "--batch-size", "1"]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('text = "documents.jsonl"', ""), "brings no text to decompose it on"),
        (('text = "documents.jsonl"', 'text = ["documents.jsonl", "absent.txt"]'), "there is no text file at"),
        (("context = 16", "context = 8"), "context 8 is shorter than the windows of 12 tokens"),
        (("context = 16", "context = 65"), "a context of 65 tokens was asked for, but the model takes 64"),
        (("context = 16", 'separator = "<end>"'), "the tokenizer has no token called <end>"),
        (("context = 16", 'tokenizer = "absent.json"'), "there is no absent.json"),
        (('target = "model"', 'target = "."'), "neither a trained target model nor a Hugging Face model"),
        (('"1.glu.*", ', '"2.glu.*", '), "'2.glu.*' fits no matrix of the model; its first are 0.attn.q"),
        (('"1.glu.down" = 7', '"1.glu.dwon" = 7'), "'1.glu.dwon' fits no matrix"),
        (('"1.glu.*", ', '"1.glu.*", "0.attn.q", '), r"has no number for q (0.attn.q)"),
        (("gate = 5", "gate = 0"), "greater than or equal to 1"),
        (('sites = ["1.glu.*", "*.attn.o"]', "sites = []"), "sites names no matrix"),
    ],
)  # fmt: skip
def test_refusals(
    folder: Path, change: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, change)
    assert decompose(folder) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "run").exists()


def settings(**more: Any) -> DecompositionConfig:
    needed: dict[str, Any] = {
        "steps": 1,
        "batch_size": 1,
        "length": 4,
        "importance_kind": "shared_mlp",
        "importance_hidden": (),
        "faithfulness": 1,
        "importance_minimality": {"coefficient": 0},
        "reconstruction": [{"masks": "ci", "routing": "all", "sequences": 1, "coefficient": 1}],
        "components_rate": {"peak": 1},
        "importance_rate": {"peak": 1},
    }
    return DecompositionConfig.model_validate(needed | more)


SHAPE = TargetConfig(
    family="gpt2", n_blocks=3, d_model=8, d_ff=8, n_heads=2, n_kv_heads=2, vocab_size=9, context=8,
    activation="relu",
)  # fmt: skip


def test_numbers_of_components_by_projection_and_by_pattern() -> None:
    components = {"up": 3, "*.mlp.*": 4, "1.mlp.up": 5, "q": 6}
    counts = settings(sites=("*.mlp.up", "2.mlp.down", "0.attn.q"), components=components).components_of(
        Topology(SHAPE)
    )
    assert {str(address): count for address, count in counts.items()} == {
        "0.attn.q": 6,
        "0.mlp.up": 4,
        "1.mlp.up": 5,
        "2.mlp.up": 4,
        "2.mlp.down": 4,
    }
    everything = settings(components=dict.fromkeys(("q", "k", "v", "o", "up", "down"), 2))
    assert set(everything.components_of(Topology(SHAPE))) == set(Topology(SHAPE).modules)


def test_trainings_begun_before_there_were_sites_go_on() -> None:
    demo = Path(__file__).resolve().parents[2] / "demo"
    with (demo / "decomposition.toml").open("rb") as file:
        config = pipeline.DecomposeConfig.model_validate(tomllib.load(file)).decomposition
    assert config.fingerprint == RunDirectory.open(demo / "run").info.provenance["configuration"]
    assert '"sites":["0.attn.q"]' in settings(components={"q": 1}, sites=("0.attn.q",)).fingerprint


def test_passes_that_start_inside_the_model() -> None:
    model = TargetModel(SHAPE)
    tokens = torch.randint(9, (2, 8))
    with torch.no_grad():
        for block in range(4):
            entering = model.enter(tokens, block)
            assert torch.equal(model(tokens, entering=entering), model(tokens))
    with pytest.raises(ValueError, match="no trace"):
        model(tokens, entering=model.enter(tokens, 1), trace=Trace())


# ---- texts ---------------------------------------------------------------------------------------


def test_plain_texts_are_cut_at_blank_lines(tmp_path: Path) -> None:
    paragraph = "word " * 200 + "\n\n"
    (tmp_path / "book.txt").write_text(paragraph * 9 + "x" * 20_000 + "\nlast line")
    with gzip.open(tmp_path / "short.txt.gz", "wt") as file:
        file.write("one\n\ntwo\n")
    found = list(documents_of([tmp_path / "book.txt", tmp_path / "short.txt.gz"]))
    assert [document.title for document in found] == [
        "book, part 1", "book, part 2", "book, part 3", "book, part 4", "short, part 1"
    ]  # fmt: skip
    assert "".join(document.text for document in found[:4]) == (tmp_path / "book.txt").read_text()
    assert found[0].text == paragraph * 4
    assert found[-1].text == "one\n\ntwo\n"
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(CorpusError, match="holds no documents"):
        list(documents_of([tmp_path / "empty.txt"]))
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorpusError, match="document 1 cannot be read"):
        list(documents_of([tmp_path / "binary.txt"]))


def test_many_documents_at_once_are_what_one_by_one_are(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = tokenize(DOCUMENTS, tokenizer)
    monkeypatch.setattr("storage.corpus._ENCODED", 500)
    assert tokenize(iter(DOCUMENTS), tokenizer).sha256 == together.sha256
    end = tokenizer.token_to_id("<|endoftext|>")
    assert together.document(3).tolist() == [end, *tokenizer.encode(DOCUMENTS[3].text).ids]


def test_the_token_between_documents(tokenizer: Tokenizer) -> None:
    document = [Document("a", "", "the fox")]
    other = Tokenizer.from_str(tokenizer.to_str().replace("<|endoftext|>", "</s>"))
    # What a tokenizer adds around a prompt does not belong between documents.
    other.post_processor = processors.TemplateProcessing(single="</s> $A </s>", special_tokens=[("</s>", 0)])
    ids = tokenizer.encode("the fox").ids
    assert tokenize(document, other).tokens.tolist() == [0, *ids]
    named = tokenizer.token_to_id("t")
    assert tokenize(document, other, separator="t").tokens.tolist() == [named, *ids]
    without = Tokenizer.from_str(tokenizer.to_str().replace("<|endoftext|>", "<other>"))
    with pytest.raises(CorpusError, match="no token that ends a text"):
        tokenize(document, without)


def test_text_for_a_run_without_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _without_text(folder)
    assert not (run.path / "corpus").exists()
    (folder / "other.txt").write_text(TEXT)
    assert tributary(["text", str(run.path), str(folder / "absent.txt")]) == 2
    assert not (run.path / "corpus").exists()
    files = [str(folder / "documents.jsonl"), str(folder / "other.txt")]
    assert tributary(["text", str(run.path), *files, "--validation-every", "7"]) == 0
    assert "41 documents, 5 of them held out" in capsys.readouterr().err
    corpus = TokenCorpus.load(run.path / "corpus")
    assert corpus.titles[-1] == "other, part 1"
    assert corpus.document(40).tolist()[1:] == run.tokenizer().encode(TEXT).ids
    assert tributary(["text", str(run.path), *files]) == 2
    assert "has a text already" in capsys.readouterr().err
    evaluated = ["evaluate", str(run.path), "--tokens", "64", "--statistics-tokens"]
    assert tributary([*evaluated, "600"]) == 0
    context = run.info.target["context"]
    assert run.statistics().arrays["tokens"].item() == 600 // (8 * context) * 8 * context
    assert tributary([*evaluated, str(10**9)]) == 0
    assert run.statistics().arrays["tokens"].item() == len(corpus.tokens)


def test_a_run_with_nothing_held_out_gets_statistics_and_is_told_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _without_text(folder)
    (folder / "one.txt").write_text(TEXT)
    assert tributary(["text", str(run.path), str(folder / "one.txt")]) == 0
    assert tributary(["evaluate", str(run.path), "--no-statistics"]) == 2
    assert "no text is held out" in capsys.readouterr().err
    assert not run.statistics_subruns()
    assert tributary(["evaluate", str(run.path), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) is None
    assert "no text is held out" in told.err
    assert run.statistics().tokens == len(TokenCorpus.load(run.path / "corpus").tokens)
    assert not (run.path / "evaluation.json").exists()


def test_a_tokenizer_of_another_model_is_refused(folder: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(CorpusError, match=r"the text has token .*, but the model's vocabulary has 40"):
        tokenize_files([folder / "documents.jsonl"], tokenizer, 40)
    with pytest.raises(CorpusError, match="there is no text file"):
        add_text(_without_text(folder), [folder / "absent"])


def _without_text(folder: Path) -> RunDirectory:
    return make_tiny_run(folder / "imported", text=False)


def test_a_trained_target_brings_its_own_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model" / "target.json").write_text("{}")
    assert decompose(folder) == 2
    assert "text is for a Hugging Face model" in capsys.readouterr().err


def test_the_example_of_the_documentation_is_a_configuration() -> None:
    document = Path(__file__).resolve().parents[2] / "docs" / "bring-your-own-run.md"
    found = re.findall(r"```toml\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    configs = [tomllib.loads(text) for text in found]
    chosen = [config for config in configs if "decomposition" in config]
    assert chosen
    shape = TargetConfig(
        family="llama", n_blocks=30, d_model=576, d_ff=1536, n_heads=9, n_kv_heads=3, vocab_size=49_152,
        context=64, activation="silu",
    )  # fmt: skip
    for config in chosen:
        counts = pipeline.DecomposeConfig.model_validate(config).decomposition.components_of(Topology(shape))
        assert {str(address): count for address, count in counts.items()} == {
            f"{block}.{name}": count
            for block in (28, 29)
            for name, count in (("attn.o", 576), ("glu.gate", 768), ("glu.up", 768), ("glu.down", 768))
        }
