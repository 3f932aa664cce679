"""Statistics of the components over a corpus: how often each is alive, and on which tokens.

Arrays (A a site, C its number of components):

==========================  ===========  ========================================================
name                        shape        content
==========================  ===========  ========================================================
``ci_sum/A``                [C]          Σ causal importance over all positions
``ci_max/A``                [C]          largest causal importance
``alive_count/A``           [C]          positions with causal importance > 0
``activation_square_sum/A`` [C]          Σ activation² (unscaled; ‖U‖ is applied where it is shown)
``top_token/A``             [C, 10]      input tokens with the largest Σ causal importance, −1 pads
``top_token_ci/A``          [C, 10]      that Σ causal importance
``token_count``             [vocab]      occurrences of each token in the corpus
``tokens``                  [1]          positions in all
==========================  ===========  ========================================================

On disk a subrun is ``manifest.json`` and ``statistics.safetensors``; the manifest holds its SHA-256
and its own.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from compute.address import Address
from storage.errors import StoreDamagedError, UnknownKeyError
from storage.files import publish, read_signed_json, write_durably, write_signed_json

FORMAT = "tributary-statistics"
PER_SITE = ("ci_sum", "ci_max", "alive_count", "activation_square_sum", "top_token", "top_token_ci")


@dataclass(frozen=True)
class Statistics:
    """A loaded statistics subrun; small enough to be held in memory as a whole."""

    subrun: str
    arrays: Mapping[str, np.ndarray]
    provenance: Mapping[str, str]

    @property
    def tokens(self) -> int:
        return int(self.arrays["tokens"][0])

    @property
    def token_count(self) -> np.ndarray:
        """Occurrences of each token, [vocab]."""
        return self.arrays["token_count"]

    def site(self, name: str, address: Address) -> np.ndarray:
        """One of the arrays per site, e.g. ``site("ci_sum", address)`` [C]; raises :class:`UnknownKeyError`."""
        try:
            return self.arrays[f"{name}/{address}"]
        except KeyError:
            raise UnknownKeyError(f"there are no statistics {name} of {address}") from None

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read and check a subrun; raises :class:`StoreDamagedError`."""
        manifest_file, data_file = path / "manifest.json", path / "statistics.safetensors"
        manifest = read_signed_json(manifest_file)
        if manifest.get("format") != FORMAT or manifest.get("version") != 1:
            raise StoreDamagedError(manifest_file, "is not a statistics manifest of version 1")
        try:
            content = data_file.read_bytes()
        except OSError as error:
            raise StoreDamagedError(data_file, f"cannot be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != manifest.get("data_sha256"):
            raise StoreDamagedError(data_file, "does not match the checksum in its manifest")
        try:
            return cls(path.name, load(content), manifest.get("provenance", {}))
        except (SafetensorError, KeyError, ValueError) as error:
            raise StoreDamagedError(data_file, f"is not a safetensors file ({error})") from error


def write_statistics(run_path: Path, arrays: Mapping[str, np.ndarray], provenance: Mapping[str, str]) -> str:
    """Write a statistics subrun, visible by one rename when it is complete; returns its name."""
    folder = run_path / "statistics"
    work = folder / f".writing-{secrets.token_hex(4)}"
    work.mkdir(parents=True)
    content = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
    write_durably(work / "statistics.safetensors", content)
    write_signed_json(
        work / "manifest.json",
        {
            "format": FORMAT,
            "version": 1,
            "data_sha256": hashlib.sha256(content).hexdigest(),
            "provenance": dict(provenance),
        },
    )
    return publish(work, folder)
