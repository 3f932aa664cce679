"""How often each component is alive, how strongly, and on which input tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from compute.address import Address
from compute.decomposition.model import Decomposition

TOP_TOKENS = 10
#: Importances that are looked at together.
ENTRIES = 1 << 24


class ComponentStatistics:
    """Sums over a corpus for every component; arrays are named as in docs/file-format.md.

    Memory: one [C, vocab] float32 table per site while accumulating.
    """

    def __init__(self, decomposition: Decomposition) -> None:
        self.decomposition = decomposition
        vocab = decomposition.target.config.vocab_size
        self._device = decomposition.target.token_embedding.weight.device
        self.tokens = 0
        self.token_count = torch.zeros(vocab, dtype=torch.int64, device=self._device)
        counts = decomposition.n_components

        def zeros(dtype: torch.dtype) -> dict[Address, Tensor]:
            return {a: torch.zeros(c, dtype=dtype, device=self._device) for a, c in counts.items()}

        self.ci_sum = zeros(torch.float64)
        self.ci_max = zeros(torch.float32)
        self.alive_count = zeros(torch.int64)
        self.activation_square_sum = zeros(torch.float64)
        self._by_token = {a: torch.zeros(vocab, c, device=self._device) for a, c in counts.items()}

    @torch.no_grad()
    def add(self, tokens: Tensor) -> None:
        """Add a batch of windows [B, T]."""
        _, inputs = self.decomposition.clean_pass(tokens)
        flat = tokens.flatten()
        self.tokens += flat.numel()
        self.token_count += torch.bincount(flat, minlength=len(self.token_count))
        for address, importance in self.decomposition.causal_importance(inputs).items():
            activations = (inputs[address] @ self.decomposition.V(address)).flatten(0, 1)
            ci = importance.flatten(0, 1)
            self.ci_sum[address] += ci.sum(0)
            self.ci_max[address] = torch.maximum(self.ci_max[address], ci.amax(0).float())
            self.alive_count[address] += (ci > 0).sum(0)
            self.activation_square_sum[address] += activations.square().sum(0)
            # Few are not zero, unless the sigmoid is smooth: hence a part at a time.
            rows = max(1, ENTRIES // ci.shape[1])
            for part, here in zip(ci.split(rows), flat.split(rows), strict=True):
                position, component = part.nonzero(as_tuple=True)
                place = here[position] * part.shape[1] + component
                self._by_token[address].view(-1).index_add_(0, place, part[position, component].float())

    def arrays(self) -> dict[str, Tensor]:
        """All results on the CPU, by name."""
        result: dict[str, Tensor] = {"tokens": torch.tensor([self.tokens]), "token_count": self.token_count}
        for address in self.decomposition.addresses:
            mass, token = self._by_token[address].T.topk(min(TOP_TOKENS, len(self.token_count)), dim=1)
            result[f"ci_sum/{address}"] = self.ci_sum[address]
            result[f"ci_max/{address}"] = self.ci_max[address]
            result[f"alive_count/{address}"] = self.alive_count[address]
            result[f"activation_square_sum/{address}"] = self.activation_square_sum[address]
            result[f"top_token/{address}"] = torch.where(mass > 0, token, -1).int()
            result[f"top_token_ci/{address}"] = mass
        return {name: value.cpu() for name, value in result.items()}
