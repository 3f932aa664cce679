"""Which keys a store knows, and where they stand in it: rows of read points, and their readers."""

from __future__ import annotations

from compute.address import OUTPUT, Address, Key, parse_address
from storage.errors import NotComputedError, UnknownKeyError
from storage.layout import ReadPoint, Settings, site_sizes


class KeySpace:
    """Resolves keys in the role of a target or of a source; refuses those that do not exist."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.points = settings.layouts
        self.readers = {point.name: tuple(map(parse_address, point.readers)) for point in self.points}
        self.point_of = {reader: point for point in self.points for reader in self.readers[point.name]}
        #: Components of every site, and of ``output`` the tokens.
        self.sizes = {parse_address(name): count for name, count in site_sizes(settings).items()}

    def target(self, key: Key) -> tuple[Address, int]:
        """The reader and the index of a target.

        Raises :class:`UnknownKeyError`, or :class:`NotComputedError` for what is a source only.
        """
        if key.address.kind in ("embed", "position"):
            self.source(key)
            raise NotComputedError(f"{key} is a source only: nothing flows into an embedding")
        count = self._count(key.address)
        if isinstance(key.index, str):
            raise NotComputedError(f"{key} is a source only: attributions into a {key.index} are not defined")
        self._check_index(key, count)
        if key.address not in self.point_of and key.address.is_site:
            raise NotComputedError(f"the imported file holds no edges into {key.address}")
        if key.address not in self.point_of:
            raise NotComputedError(
                "attributions into output tokens need the model's unembedding, which the imported file lacks",
                "import the run that it was computed on, and add the file to it with --into",
            )
        return key.address, key.index

    def source(self, key: Key) -> list[tuple[ReadPoint, int]]:
        """All places where a source flows in: read point and row, in forward order.

        Raises :class:`UnknownKeyError`, or :class:`NotComputedError` for what is a target only.
        """
        if key.address == OUTPUT:
            self._check_index(key, self.sizes[OUTPUT])
            raise NotComputedError(f"{key} is a target only: output tokens flow into nothing")
        kind = key.address.kind
        if key.address.is_site:
            self._count(key.address)
            kind = key.index if isinstance(key.index, str) else "component"
        places: list[tuple[ReadPoint, int]] = []
        for point in self.points:
            for block in point.blocks:
                if block.kind == kind and block.parsed == key.address:
                    index = 0 if isinstance(key.index, str) else key.index
                    if index >= block.count:
                        self._check_index(key, block.count)
                    places.append((point, block.offset + index))
        if places:
            return places
        if self._settings.imported_from is not None:
            what = kind if kind in ("delta", "bias", "position") else "source"
            known = what == "source" and key.address.is_site
            raise NotComputedError(
                f"the imported file holds no edges from {key.address}"
                if known
                else f"{key} is not a source here: published files hold tokens and components only"
            )
        if kind == "delta":
            raise NotComputedError(
                f"{key} is not a source here: these attributions were computed with delta off",
                "run tributary attribute with --delta node",
            )
        raise UnknownKeyError(f"this model has no {key}", self._names())

    def _count(self, address: Address) -> int:
        if address not in self.sizes:
            raise UnknownKeyError(f"this model has no site {address}", self._names())
        return self.sizes[address]

    def _check_index(self, key: Key, count: int) -> None:
        if isinstance(key.index, int) and key.index >= count:
            raise UnknownKeyError(
                f"{key} does not exist: {key.address} has {count}", f"indices are 0 to {count - 1}"
            )

    def _names(self) -> str:
        return f"sites: {', '.join(str(address) for address in sorted(self.sizes) if address != OUTPUT)}"
