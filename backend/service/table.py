"""All components of a run with their statistics, as columns: what the table sorts and filters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compute.address import Address, Key
from storage.model_tensors import ModelTensors
from storage.statistics import Statistics


@dataclass(frozen=True)
class ComponentTable:
    """All components of a run in display order, n of them; NaN where nothing is known.

    ``keys`` [n]; ``site`` [n] the index into ``addresses``; ``columns`` [n] as named in the wire
    model of a component; ``top_token`` and ``top_token_ci`` [n, 10] (−1 pads); ``ci_sum`` [n].
    """

    subrun: str | None
    tokens: int | None
    addresses: tuple[Address, ...]
    starts: dict[Address, int]
    keys: tuple[str, ...]
    site: np.ndarray
    columns: dict[str, np.ndarray]
    top_token: np.ndarray
    top_token_ci: np.ndarray
    ci_sum: np.ndarray
    token_count: np.ndarray | None

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each component by its key as text."""
        return {key: row for row, key in enumerate(self.keys)}

    def position(self, key: Key) -> int:
        """The row of a component's key."""
        assert isinstance(key.index, int)
        return self.starts[key.address] + key.index

    def of_site(self, address: Address) -> slice:
        """The rows of a site."""
        rows = np.flatnonzero(self.site == self.addresses.index(address))
        return slice(int(rows[0]), int(rows[-1]) + 1)


@dataclass(frozen=True)
class SummedImportance:
    """What an imported file of attributions says of its components, for runs that have no statistics.

    ``ci_sum`` by site, over ``tokens``; ``token_count`` [vocab].
    """

    subrun: str
    tokens: int
    ci_sum: dict[Address, np.ndarray]
    token_count: np.ndarray


def build_table(
    starts: dict[Address, int],
    keys: tuple[str, ...],
    tensors: ModelTensors | None,
    statistics: Statistics | None,
    summed: SummedImportance | None = None,
) -> ComponentTable:
    """Gather the columns; the activations' scale ‖U‖ is read from the model, where there is one.
    ``summed`` takes the place of statistics as far as it goes.

    ``starts`` are the sites in display order with the row of each one's first component.
    """
    addresses, n = tuple(starts), len(keys)
    counts = np.diff([*starts.values(), n])

    def gathered(name: str) -> np.ndarray:
        if statistics is None:
            return np.full(n, np.nan)
        return np.concatenate([statistics.site(name, address) for address in addresses]).astype(np.float64)

    known = statistics or summed
    tokens = None if known is None else known.tokens
    # Divided, not multiplied by an inverse: a harvest of the same text gives the same digits.
    positions = tokens or np.nan
    norms = [np.full(n, np.nan)]
    if tensors is not None:
        norms = [np.linalg.norm(tensors[f"components.{address}.U"], axis=1) for address in addresses]
    ci_sum = gathered("ci_sum")
    if statistics is None and summed is not None:
        ci_sum = np.concatenate([summed.ci_sum[address] for address in addresses])
    columns = {
        "mean_ci": ci_sum / positions,
        "density": gathered("alive_count") / positions,
        "max_ci": gathered("ci_max"),
        "activation_rms": np.sqrt(gathered("activation_square_sum") / positions) * np.concatenate(norms),
    }
    top_token, top_token_ci = np.full((n, 10), -1), np.zeros((n, 10))
    if statistics is not None:
        top_token, top_token_ci = (
            np.concatenate([statistics.site(name, address) for address in addresses])
            for name in ("top_token", "top_token_ci")
        )
    return ComponentTable(
        subrun=None if known is None else known.subrun,
        tokens=tokens,
        addresses=addresses,
        starts=starts,
        keys=keys,
        site=np.repeat(np.arange(len(addresses)), counts),
        columns=columns,
        top_token=top_token,
        top_token_ci=top_token_ci,
        ci_sum=ci_sum,
        token_count=None if known is None else known.token_count,
    )
