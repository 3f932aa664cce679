"""What a model is told: rates, marks at the edges of texts, and what is known of neighbours."""

from __future__ import annotations

from backend.autolabel import prompts
from backend.autolabel.facts import Facts, Neighbour, TokenFact, Window, site_words
from backend.autolabel.material import RunMaterial
from backend.autolabel.strategies import Context, Evidence, depth
from backend.service.run import Run
from compute.address import parse_address
from tests.autolabel.conftest import RARE


def facts(**more: object) -> Facts:
    values: dict[str, object] = {
        "key": "0.attn.q:1",
        "where": "somewhere",
        "firings": 5,
        "tokens": 1000,
        "inputs": (TokenFact(" the", 0.8, 0.5, 4, 8),),
        "outputs": (TokenFact("\n", 0.25, 0.5, 1.25, 2.5),),
        "examples": (Window(7, ("a", " b", "c"), (0.9, 0.0, 0.2), (-1.5, 0.0, 0.3), 0),),
        "threshold": 0.0,
    }
    return Facts(**(values | more))  # type: ignore[arg-type]


def test_evidence_says_rates_from_counts_of_firings() -> None:
    text = prompts.evidence(facts())[1].content
    assert "It fires on 1 token in 200 (5 of 1,000)." in text
    assert '- " the": 80 % of its firings; it fires on 50 % of the 8 occurrences' in text
    assert '- "↵": 25 % where it fires, 0.25 % on average' in text
    assert "1. <<a>> b<<c>>" in text
    assert '"a" 0.90 (-1.5), "c" 0.20 (+0.3)' in text
    assert "It fires on 30 % of all tokens" in prompts.evidence(facts(firings=300))[1].content


def test_marks_leave_spaces_outside_and_keep_one_line() -> None:
    window = Window(0, (" a", "\n", " ", "b"), (1, 1, 1, 0), (0, 0, 0, 0), 0)
    assert prompts.marked(window, [True, True, True, False]) == " <<a>><<↵>><< >>b"
    assert prompts.plain(window) == " a↵ b"


def test_shares_are_never_rounded_to_nothing() -> None:
    assert [prompts.percent(x) for x in (0.0, 1e-7, 0.00123, 0.0456, 0.999, 1.0)] == [
        "0 %", "under 0.01 %", "0.12 %", "4.6 %", "100 %", "100 %",
    ]  # fmt: skip


def test_neighbours_stand_with_their_labels() -> None:
    shown = [
        Neighbour("1.glu.up:3", 0.5, "commas", True),
        Neighbour("output:9", -0.25, "the next token x", False),
    ]
    text = prompts.output_pass(facts(), shown)[1].content
    assert "- +0.5  1.glu.up:3: commas\n- -0.25  output:9: the next token x" in text
    assert "By what it drives: no label could be made" in prompts.unify(facts(), "", "b")[1].content
    assert "It drives nothing that stands out" in prompts.output_pass(facts(), [])[1].content


def test_every_kind_of_site_has_words() -> None:
    for site in ("0.attn.q", "1.attn.o", "0.attn_fused.qkv", "0.mlp.up", "2.mlp.down", "0.glu.gate"):
        assert "in block" in site_words(parse_address(site), 3)


# ---- from a real harvest ------------------------------------------------------------------------


def test_examples_are_marked_where_the_component_fires_also_at_edges(toy: Run) -> None:
    harvest = toy.directory.harvest()
    material = RunMaterial(toy, harvest, None, 12)
    texts = toy.vocabulary.texts
    corpus = toy.directory.corpus()
    edges = 0
    for key in RARE:
        for window in material.windows(key, "random"):
            assert window.tokens == tuple(texts[t] for t in corpus.tokens[window.start : window.end])
            assert window.ci[window.centre] > 0
            assert len(window.tokens) == len(window.ci) == len(window.activation)
            edges += window.centre != harvest.settings.left
    assert edges, "no firing stood near an edge: the test does not test it"


def test_facts_of_a_component(toy: Run) -> None:
    harvest = toy.directory.harvest()
    found = RunMaterial(toy, harvest, None, 6).facts(RARE[0])
    address = parse_address("0.glu.down")
    assert found.firings == harvest.site("firing_count", address)[1]
    assert abs(found.density - found.firings / len(toy.directory.corpus().tokens)) < 1e-12
    mean_ci = harvest.site("ci_sum", address)[1] / harvest.tokens
    assert abs(mean_ci - found.density) > 0.01  # another number altogether
    shown = found.examples
    assert 3 <= len(shown) <= 6
    assert not any(a.overlaps(b) for i, a in enumerate(shown) for b in shown[:i])
    # At most half of the sample is shown, however much is asked for: scoring needs the rest.
    material = RunMaterial(toy, harvest, None, 60)
    strongest = {w.position for w in material.windows(RARE[0], "strongest")}
    sample = {w.position for w in material.windows(RARE[0], "random")}
    many = {w.position for w in material.facts(RARE[0]).examples}
    assert many <= strongest | sample
    assert 0 < len(many - strongest) <= len(sample) // 2
    # The first token is the one that goes with it most surely; its counts are the harvest's.
    ids, counts = harvest.input_counts(address, 1)
    first = found.inputs[0]
    token = toy.vocabulary.texts.index(first.text)
    assert first.count == dict(zip(ids.tolist(), counts.tolist(), strict=True))[token]
    assert first.total == harvest.token_count[token]


def test_layers_of_the_context_strategy(toy: Run) -> None:
    order = [
        "0.attn.q:1",
        "0.attn.v:0",
        "0.attn.o:2",
        "0.glu.up:0",
        "0.glu.gate:1",
        "0.glu.down:1",
        "1.attn.k:0",
    ]
    depths = [depth(parse_address(key.partition(":")[0])) for key in order]
    assert depths == sorted(depths)
    material = RunMaterial(toy, toy.directory.harvest(), toy.attributions(), 6)
    layers = Context(material).layers(order)
    forward = [
        ("0.attn.q:1", "0.attn.v:0"),
        ("0.attn.o:2",),
        ("0.glu.up:0", "0.glu.gate:1"),
        ("0.glu.down:1",),
        ("1.attn.k:0",),
    ]
    assert [layer.keys for layer in layers] == [*reversed(forward), *forward, tuple(order)]
    assert [layer.stage for layer in layers] == ["output"] * 5 + ["input"] * 5 + ["unify"]
    assert Evidence(material).layers(order)[0].keys == tuple(order)
    # Whatever a layer's prompts quote from its own stage belongs to an earlier layer.
    for stage in ("output", "input"):
        mine = [layer.keys for layer in layers if layer.stage == stage]
        later = {key: place for place, keys in enumerate(mine) for key in keys}
        direction = "targets" if stage == "output" else "sources"
        for key in order:
            labels = dict.fromkeys(order, "x")
            quoted = [n.key for n in material.neighbours(key, direction, labels) if n.labelled]
            assert all(later[other] < later[key] for other in quoted)


def test_neighbours_are_the_strongest_of_both_signs(toy: Run) -> None:
    store = toy.attributions()
    material = RunMaterial(toy, toy.directory.harvest(), store, 6)
    found = material.neighbours("1.glu.down:2", "sources", {"1.glu.up:0": "commas"})
    values = [n.value for n in found]
    assert values == sorted(values, key=lambda v: -abs(v))
    assert sum(v > 0 for v in values) <= 8
    assert sum(v < 0 for v in values) <= 4
    texts = {n.key: n.text for n in found}
    assert texts.get("1.glu.up:0", "commas") == "commas"
    tokens = material.neighbours("0.attn.q:1", "sources", {})
    assert any(n.key.startswith("embed:") and n.text.startswith('the token "') for n in tokens)
    outputs = material.neighbours("1.glu.down:2", "targets", {})
    assert all(n.text.startswith('the next token "') for n in outputs)
