"""What is known of a component, in the form in which it is told to a language model."""

from __future__ import annotations

from dataclasses import dataclass

from compute.address import Address

_SITES = {
    "attn.q": "the query projection of attention",
    "attn.k": "the key projection of attention",
    "attn.v": "the value projection of attention",
    "attn.o": "the output projection of attention",
    "attn_fused.qkv": "the fused query, key and value projection of attention",
    "attn_fused.o": "the output projection of attention",
    "mlp.up": "the up projection of the MLP",
    "mlp.down": "the down projection of the MLP",
    "glu.gate": "the gate projection of the gated MLP",
    "glu.up": "the up projection of the gated MLP",
    "glu.down": "the down projection of the gated MLP",
}


def site_words(address: Address, n_blocks: int) -> str:
    """Where a site is, for somebody who has not seen the model."""
    assert address.block is not None
    what = _SITES[f"{address.kind}.{address.projection}"]
    return f"{what} in block {address.block + 1} of {n_blocks}"


@dataclass(frozen=True)
class Window:
    """A piece of text around one firing, as far as the model saw it.

    ``position`` [in the corpus] is that of the firing token, ``tokens[centre]``; the window may begin or
    end close to it. ``activation`` is scaled by ‖U‖.
    """

    position: int
    tokens: tuple[str, ...]
    ci: tuple[float, ...]
    activation: tuple[float, ...]
    centre: int

    @property
    def start(self) -> int:
        """Its first token's position in the corpus."""
        return self.position - self.centre

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)

    def fires(self, threshold: float) -> list[bool]:
        return [ci > threshold for ci in self.ci]

    def overlaps(self, other: Window) -> bool:
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class TokenFact:
    """A token and a component: ``recall`` P(token | fires), ``precision`` P(fires | token)."""

    text: str
    recall: float
    precision: float
    count: float
    total: float


@dataclass(frozen=True)
class Facts:
    """``density`` is the share of positions at which the component fires: not its mean importance.

    ``outputs`` are next tokens by the target model's own probability: ``recall`` is the mean
    probability where the component fires.
    """

    key: str
    where: str
    firings: int
    tokens: int
    inputs: tuple[TokenFact, ...]
    outputs: tuple[TokenFact, ...]
    examples: tuple[Window, ...]
    threshold: float

    @property
    def density(self) -> float:
        return self.firings / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class Neighbour:
    """A source or target of a component: its normalised attribution, and what it is about."""

    key: str
    value: float
    text: str
    #: Whether ``text`` is a label of the same set.
    labelled: bool
