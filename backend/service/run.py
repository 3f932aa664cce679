"""One open run: its parts are read when they are first needed, and kept.

A new subrun appears without a restart; what was opened of an older one stays open.
"""

from __future__ import annotations

import threading
from functools import cached_property

import numpy as np

from backend.errors import ServiceError
from backend.service.background import Once, Timed
from backend.service.model_shape import read_target
from backend.service.subruns import Opened
from backend.service.table import ComponentTable, SummedImportance, build_table
from backend.service.token_firings import TokenFirings, token_firings
from backend.service.vocabulary import Vocabulary
from compute.address import Address, Key, parse_key
from compute.targets.config import TargetConfig
from compute.topology import Topology
from storage.attributions import AttributionStore
from storage.corpus import TokenCorpus
from storage.errors import NoModelError, UnknownKeyError
from storage.files import sha256_file
from storage.harvest import Harvest
from storage.run_directory import RunDirectory, RunInfo
from storage.statistics import Statistics
from storage.strongest import StrongestEnds


class Run:
    """A run under the name by which it is served. Threads may share one."""

    def __init__(self, name: str, directory: RunDirectory) -> None:
        self.name = name
        self.directory = directory
        self._config, self._shape = read_target(directory.info)
        self.n_components = {site.parsed: site.n_components for site in directory.info.sites}
        #: SHA-256 of run.json, which names the checksums of everything that decides what is computed.
        self.digest = sha256_file(directory.path / "run.json")
        self._lock = threading.Lock()
        self._stores = Opened(name, "attributions", directory.attribution_subruns, directory.attributions)
        self._harvests = Opened(name, "harvest", directory.harvest_subruns, directory.harvest)
        self._statistics: Statistics | None = None
        self._table: ComponentTable | None = None
        self._corpus: TokenCorpus | None = None
        self._ends: Once[StrongestEnds] = Once("All sources and targets are being ranked")
        self._token_firings: Once[TokenFirings] = Once(
            "The tokens of all components are being looked through"
        )

    @property
    def info(self) -> RunInfo:
        return self.directory.info

    @property
    def config(self) -> TargetConfig:
        """Sizes of the target model; raises a 409 where the run came without one."""
        if self._config is None:
            what = (
                "features instead of tokens"
                if self.info.kind == "toy"
                else "attributions without their model"
            )
            raise NoModelError(
                f"the run {self.name} holds {what}, so no text can be run through it",
                "open a run that has a language model"
                if self.info.kind == "toy"
                else "import the run that they were computed on, and add them to it with --into",
            )
        return self._config

    @cached_property
    def topology(self) -> Topology:
        """Which site feeds which; raises as :attr:`config`."""
        return Topology(self.config, frozenset(self.n_components))

    @property
    def vocab_size(self) -> int:
        """Tokens of the model, known without it; 0 where it has none."""
        return self._shape.vocab_size

    @property
    def n_blocks(self) -> int:
        return self._shape.n_blocks

    @property
    def d_model(self) -> int | None:
        """Width of the residual stream, None where nobody knows it."""
        return self._shape.d_model

    @property
    def pseudo_sizes(self) -> dict[Address, int]:
        """How many ``embed``, ``output`` and (with learned positions) ``position`` there are."""
        return self._shape.pseudo_sizes

    def has_bias(self, address: Address) -> bool:
        """Whether the bias of a site is a source of attributions here."""
        return self._config is not None and self.topology.sites[address].has_bias

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Works without a tokenizer: tokens are then shown by their ids."""
        tokenizer = None if self.info.tokenizer is None else self.directory.tokenizer()
        return Vocabulary(tokenizer, self.vocab_size)

    @cached_property
    def starts(self) -> dict[Address, int]:
        """Flat index of each site's first component: its place among all, in display order."""
        addresses = sorted(self.n_components)
        counts = np.cumsum([0, *(self.n_components[address] for address in addresses)]).tolist()
        return dict(zip(addresses, counts, strict=False))

    @cached_property
    def component_keys(self) -> tuple[str, ...]:
        """Keys of all components by flat index."""
        return tuple(f"{a}:{i}" for a in self.starts for i in range(self.n_components[a]))

    def component(self, text: str) -> Key:
        """As :meth:`key`, of a component; raises :class:`UnknownKeyError` for what is none."""
        key = self.key(text)
        if not (key.address.is_site and isinstance(key.index, int)):
            raise UnknownKeyError(
                f"{text} is not a component, and only components fire", "ask for a key such as 0.attn.q:0"
            )
        return key

    def flat_index(self, key: Key) -> int:
        assert isinstance(key.index, int)
        return self.starts[key.address] + key.index

    def corpus(self) -> TokenCorpus:
        """The tokenised text, in its file; raises a 409 where the run came without, or the corpus' errors."""
        with self._lock:
            if self._corpus is None:
                folder = self.directory.path / "corpus"
                if not folder.is_dir():
                    raise self.without_text()
                self._corpus = TokenCorpus.load(folder, mapped=True)
            return self._corpus

    def without_text(self) -> ServiceError:
        """What is said where the text of a run that has none is asked for, with what brings it."""
        if self.info.kind != "model":
            hint = "It came without its model too, so a text would be of no use."
        elif self.info.tokenizer is None:
            hint = "Import it again with --tokenizer and --text."
        else:
            hint = f"Give it one: tributary text {self.name} FILE"
        return ServiceError(409, "not_computed", f"The run {self.name} came without its text", hint)

    def attributions(self, subrun: str | None = None) -> AttributionStore:
        """The store of a subrun, by default the newest; raises a 404 or a 409 if there is none."""
        return self._stores.get(subrun)

    def has_harvest(self) -> bool:
        return bool(self.directory.harvest_subruns())

    def harvest(self, subrun: str | None = None) -> Harvest:
        """A harvest, by default the newest; raises a 404 or a 409 if there is none."""
        if not self.has_harvest():
            _ = self.config  # No command makes one without the model.
        return self._harvests.get(subrun)

    def statistics(self) -> Statistics | None:
        """The newest statistics, or ``None`` where none were gathered."""
        names = self.directory.statistics_subruns()
        if not names:
            return None
        with self._lock:
            if self._statistics is None or self._statistics.subrun != names[0]:
                self._statistics = self.directory.statistics(names[0])
            return self._statistics

    def table(self) -> ComponentTable:
        """All components with the newest statistics; built once for each statistics subrun."""
        statistics = self.statistics()
        summed = self._summed_importance() if statistics is None else None
        known = statistics or summed
        subrun = None if known is None else known.subrun
        with self._lock:
            if self._table is None or self._table.subrun != subrun:
                self._table = build_table(
                    self.starts,
                    self.component_keys,
                    self.directory.model_tensors() if self.directory.has_model_file else None,
                    statistics,
                    summed,
                )
            return self._table

    def _summed_importance(self) -> SummedImportance | None:
        """Of a run that came without its model, what its newest attributions are normalised by."""
        if self.info.kind != "attributions" or not self.directory.attribution_subruns():
            return None
        store = self.attributions()
        if store.normalisation == "tokens":
            return None
        ci_sum = {address: store.statistic(f"ci_sum/{address}") for address in self.starts}
        return SummedImportance(store.subrun, store.tokens, ci_sum, store.statistic("token_count"))

    def strongest_ends(self) -> Timed[StrongestEnds]:
        """Strongest sources and targets by the newest attributions; raises what :meth:`attributions`
        does, and a 503 while they are being ranked."""
        store = self.attributions()
        return self._ends.get(store.subrun, store.strongest_ends)

    def token_firings(self) -> Timed[TokenFirings]:
        """Components by token, from the newest harvest; raises what :meth:`harvest` does, and a 503."""
        harvest = self.harvest()
        return self._token_firings.get(harvest.subrun, lambda report: token_firings(harvest, report))

    def token_counts(self) -> np.ndarray | None:
        """Occurrences of every token in the corpus, [vocab]; ``None`` where nobody counted them."""
        return self.table().token_count

    def key(self, text: str) -> Key:
        """Parse a key and check that this model has it; raises :class:`UnknownKeyError`."""
        key = parse_key(text)
        sizes = self.pseudo_sizes
        count = (self.n_components if key.address.is_site else sizes).get(key.address)
        if count is None:
            if self._config is not None and key.address in self.topology.modules:
                raise UnknownKeyError(
                    f"{key.address} is left whole in {self.name}: it has no components",
                    "gradients pass through it; ask for a site that is decomposed",
                )
            there = ", ".join(str(address) for address in [*self.n_components, *sizes])
            raise UnknownKeyError(f"{self.name} has no {key.address}", f"there are {there}")
        if key.index == "bias" and not self.has_bias(key.address):
            raise UnknownKeyError(f"{key.address} has no bias", "ask for its components or its delta")
        if isinstance(key.index, int) and key.index >= count:
            raise UnknownKeyError(
                f"{key} does not exist: {key.address} has {count}", f"indices are 0 to {count - 1}"
            )
        return key

    def label(self, key: Key) -> str | None:
        """The token's text, for embedded and output tokens."""
        if key.address.kind in ("embed", "output") and isinstance(key.index, int):
            return self.vocabulary.texts[key.index]
        return None
