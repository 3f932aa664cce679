"""What each site in front of an attention writes: queries, keys, values, or all three.

A fused site has three roles at once, one for each run of columns of its output; whatever is linear
in what a source writes is the sum over its roles.
"""

from __future__ import annotations

from typing import Literal

from compute.address import Address
from compute.targets.config import TargetConfig

Role = Literal["query", "key", "value"]
#: Roles of one site with the columns of its output that hold them, in this order.
Roles = tuple[tuple[Role, slice], ...]


def attention_roles(config: TargetConfig, block: int) -> dict[Address, Roles]:
    """The sites of a block whose outputs its attention mixes, in forward order, with their roles."""
    kv_width = config.n_kv_heads * config.d_head
    widths: dict[Role, int] = {"query": config.attention_width, "key": kv_width, "value": kv_width}
    if not config.fused_qkv:
        return {Address(block, "attn", role[0]): ((role, slice(0, width)),) for role, width in widths.items()}
    roles: list[tuple[Role, slice]] = []
    start = 0
    for role, width in widths.items():
        roles.append((role, slice(start, start + width)))
        start += width
    return {Address(block, "attn_fused", "qkv"): tuple(roles)}
