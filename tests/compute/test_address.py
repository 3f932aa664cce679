"""The canonical grammar: what parses, what prints, what sorts where."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.address import (
    EMBED,
    OUTPUT,
    POSITION,
    PROJECTIONS,
    TARGET,
    Address,
    AddressError,
    Key,
    NodeKey,
    parse_address,
    parse_key,
    parse_node_key,
)

SITES = [(kind, projection) for kind, projections in PROJECTIONS.items() for projection in projections]
addresses = st.builds(
    lambda block, site: Address(block, *site), st.integers(0, 9999), st.sampled_from(SITES)
) | st.sampled_from([EMBED, POSITION, OUTPUT])


@given(addresses, st.integers(0, 999_999_999) | st.sampled_from(["delta", "bias"]))
def test_printing_and_parsing_are_inverse(address: Address, index: int | str) -> None:
    assert parse_address(str(address)) == address
    if isinstance(index, int) or address.is_site:
        key = Key(address, index)  # type: ignore[arg-type]
        assert parse_key(str(key)) == key


@given(st.text(max_size=30))
def test_anything_else_is_refused_by_name(text: str) -> None:
    with contextlib.suppress(AddressError):
        assert str(parse_key(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", ":", "0.attn.q", "0.attn.q:", "0.attn.q:-1", "0.attn.q:01", "0.attn.q:1 ", "0.attn.q:٣", "0.attn.gate:1",
     "x.attn.q:1", "0.ffn.up:1", "0.attn:1", "embed:delta", "output:bias", "../etc:1", "00000.attn.q:1"],
)  # fmt: skip
def test_malformed_keys(text: str) -> None:
    with pytest.raises(AddressError):
        parse_key(text)


def test_display_order() -> None:
    order = ["embed", "0.attn.q", "0.attn.k", "0.attn.v", "0.attn.o", "0.glu.gate", "0.glu.up", "0.glu.down",
             "2.attn.q", "10.attn.q", "10.mlp.up", "output"]  # fmt: skip
    assert [str(a) for a in sorted(parse_address(text) for text in reversed(order))] == order
    keys = ["0.attn.q:2", "0.attn.q:10", "0.attn.q:delta", "0.attn.q:bias", "0.attn.k:0"]
    assert [str(k) for k in sorted(parse_key(text) for text in reversed(keys))] == keys


@given(
    addresses | st.just(TARGET),
    st.integers(0, 999_999_999),
    st.integers(0, 99_999) | st.sampled_from(["delta", "bias"]),
)
def test_printing_and_parsing_nodes_are_inverse(address: Address, position: int, index: int | str) -> None:
    if isinstance(index, int) or address.is_site:
        node = NodeKey(address, position, index)  # type: ignore[arg-type]
        assert parse_node_key(str(node)) == node
        assert node.key == Key(address, index)  # type: ignore[arg-type]


@given(st.text(max_size=30) | st.from_regex(r"[a-z0-9.]{1,8}:[0-9]{1,3}:[0-9a-z]{1,5}", fullmatch=True))
def test_any_other_node_is_refused_by_name(text: str) -> None:
    with contextlib.suppress(AddressError):
        assert str(parse_node_key(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "0.attn.q:3", "0.attn.q:3:17:1", "0.attn.q:-1:17", "0.attn.q:03:17", "0.attn.q::17", "embed:0:delta",
     "target:0:bias", "target:0", "targets:0:0", "0.attn.q:3:gamma"],
)  # fmt: skip
def test_malformed_nodes(text: str) -> None:
    with pytest.raises(AddressError):
        parse_node_key(text)


def test_nodes_sort_by_address_position_and_index() -> None:
    order = ["embed:0:7", "0.attn.q:0:2", "0.attn.q:0:10", "0.attn.q:0:delta", "0.attn.q:0:bias", "0.attn.q:3:0",
             "0.glu.down:1:0", "output:5:1", "target:2:0"]  # fmt: skip
    assert [str(node) for node in sorted(parse_node_key(text) for text in reversed(order))] == order


def test_custom_targets_are_not_addresses_of_a_dataset() -> None:
    with pytest.raises(AddressError):
        parse_address("target")
