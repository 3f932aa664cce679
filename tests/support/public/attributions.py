"""Attributions by the published definition: one backward pass for each target component.

Gradient × activation between decomposed modules, summed over a batch. Every mask is 1 and what the
components leave over is out, unless ``deltas`` asks for it. A pair of modules is connected if the
gradient between them exists at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tests.support.public.components import ComponentModel, Cut


@dataclass
class PublicAttributions:
    """Raw sums by concrete module path; ``regular[target][source]`` is [C_target, C_source]."""

    regular: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    regular_abs: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    embed: dict[str, Tensor] = field(default_factory=dict)
    embed_abs: dict[str, Tensor] = field(default_factory=dict)
    unembed: dict[str, Tensor] = field(default_factory=dict)
    embed_unembed: Tensor = field(default_factory=lambda: torch.zeros(0))
    w_unembed: Tensor = field(default_factory=lambda: torch.zeros(0))
    ci_sum: dict[str, Tensor] = field(default_factory=dict)
    act_square_sum: dict[str, Tensor] = field(default_factory=dict)
    logit_square_sum: Tensor = field(default_factory=lambda: torch.zeros(0))
    token_count: Tensor = field(default_factory=lambda: torch.zeros(0))
    n_tokens: int = 0


@dataclass
class CutPass:
    """One forward pass in which component activations and the embedding are leaves."""

    cut: Cut
    embedding: Tensor
    final: Tensor
    logits: Tensor


def cut_pass(
    model: ComponentModel, tokens: Tensor, embed: str, unembed: str, *, deltas: bool = False
) -> CutPass:
    """All masks 1; ``embed`` and ``unembed`` are the paths of the two vocabulary matrices."""
    seen: dict[str, Tensor] = {}

    def leaf(_module: nn.Module, _args: object, out: Tensor) -> Tensor:
        seen["embedding"] = out.detach().requires_grad_()
        return seen["embedding"]

    def keep(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen["final"] = args[0]

    cut = Cut()
    ones = {path: torch.ones(*tokens.shape, n) for path, n in model.counts.items()}
    whole = {path: torch.ones(tokens.shape) for path in ones} if deltas else None
    handles = (
        model.target.get_submodule(embed).register_forward_hook(leaf),
        model.target.get_submodule(unembed).register_forward_pre_hook(keep),
    )
    with torch.enable_grad():
        logits = model.masked(tokens, ones, whole, cut)
    for handle in handles:
        handle.remove()
    return CutPass(cut, seen["embedding"], seen["final"], logits)


def _by_token(values: Tensor, tokens: Tensor, vocab: int) -> Tensor:
    return torch.zeros(vocab).index_add_(0, tokens.flatten(), values.flatten())


def attributions(
    model: ComponentModel,
    tokens: Tensor,
    importance: dict[str, Tensor],
    *,
    embed: str,
    unembed: str,
    ci_weighted: bool = True,
    deltas: bool = False,
) -> PublicAttributions:
    """Sums over a batch, target by target."""
    passed = cut_pass(model, tokens, embed, unembed, deltas=deltas)
    paths, leaves = [*passed.cut.after], [*passed.cut.after.values()]
    vocab = model.target.get_submodule(embed).num_embeddings
    weight = model.target.get_submodule(unembed).weight
    assert isinstance(vocab, int)
    assert isinstance(weight, Tensor)
    out = PublicAttributions(
        w_unembed=weight.detach().T.clone(),
        ci_sum={path: importance[path].sum((0, 1)) for path in paths},
        act_square_sum={p: a.detach().square().sum((0, 1)) for p, a in passed.cut.after.items()},
        logit_square_sum=passed.logits.detach().square().sum((0, 1)),
        token_count=torch.bincount(tokens.flatten(), minlength=vocab),
        n_tokens=tokens.numel(),
    )

    def effects(value: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Sums of gradient × activation of every source of one number, and those of tokens."""
        if not value.requires_grad:
            return {}, None
        grads = torch.autograd.grad(value, [*leaves, passed.embedding], retain_graph=True, allow_unused=True)
        parts: dict[str, Tensor] = {}
        for path, act, grad in zip(paths, leaves, grads, strict=False):
            if grad is not None:
                strength = grad * act.detach()
                parts[path] = (strength * importance[path] if ci_weighted else strength).sum((0, 1))
        last = grads[-1]
        token = None if last is None else _by_token((last * passed.embedding.detach()).sum(-1), tokens, vocab)
        return parts, token

    def rows(totals: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        found = [effects(total) for total in totals]
        tokens_of = [token for _, token in found if token is not None]
        sources = {path: torch.stack([parts[path] for parts, _ in found]) for path in found[0][0]}
        return sources, torch.stack(tokens_of) if tokens_of else None

    for path, activation in passed.cut.before.items():
        signed, signed_tokens = rows(activation.sum((0, 1)))
        magnitude, magnitude_tokens = rows(activation.abs().sum((0, 1)))
        out.regular[path], out.regular_abs[path] = signed, magnitude
        if signed_tokens is not None and magnitude_tokens is not None:
            out.embed[path], out.embed_abs[path] = signed_tokens, magnitude_tokens
    out.unembed, straight = rows(passed.final.sum((0, 1)))
    out.embed_unembed = straight if straight is not None else torch.zeros(weight.shape[1], vocab)
    return out


def prompt_attributions(
    model: ComponentModel, tokens: Tensor, target: str, component: int, position: int, *,
    embed: str, unembed: str,
) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
    """Effects on one target element of a prompt [1, T], what the components leave over included.

    ``target`` is a module's path, or ``output`` for logits (``component`` is the token then). The result:
    gradient × activation of every component of every connected module at every position, [T, C] by
    path, and of the token embedding, [T]. The published graphs keep positions other than the
    target's only for keys and values acting on the output projection of their block.
    """
    passed = cut_pass(model, tokens, embed, unembed, deltas=True)
    targets = passed.logits if target == "output" else passed.cut.before[target]
    value = targets[0, position, component]
    leaves = [*passed.cut.after.values(), passed.embedding]
    grads = torch.autograd.grad(value, leaves, allow_unused=True)
    parts = {
        path: (grad * act.detach())[0]
        for (path, act), grad in zip(passed.cut.after.items(), grads, strict=False)
        if grad is not None
    }
    last = grads[-1]
    token = torch.zeros(tokens.shape[1]) if last is None else (last * passed.embedding.detach()).sum(-1)[0]
    return parts, token
