"""Which site a name in a published file means: canonical addresses and the module paths of known models."""

from __future__ import annotations

import re
from collections.abc import Iterable

from backend.importing.errors import ImportRefusedError
from compute.address import Address, AddressError, parse_address
from storage.run_directory import RunInfo

#: Block and module of a concrete path, as the simple models, GPT-2 and Llama have them.
_PATH = re.compile(r"(?:\w+\.)?(?:h|h_torch|layers)\.(\d+)\.((?:attn|self_attn|mlp)\.\w+)", re.ASCII)
#: An early spelling of canonical names.
_EARLY = re.compile(r"(\d+)\.ffn\.(gate|up|down)", re.ASCII)
_MODULES: dict[str, tuple[str, str]] = {
    "attn.q_proj": ("attn", "q"),
    "attn.k_proj": ("attn", "k"),
    "attn.v_proj": ("attn", "v"),
    "attn.o_proj": ("attn", "o"),
    "attn.c_attn": ("attn_fused", "qkv"),
    "attn.c_proj": ("attn_fused", "o"),
    "mlp.gate_proj": ("glu", "gate"),
    "mlp.up_proj": ("glu", "up"),
    "mlp.c_fc": ("mlp", "up"),
    "mlp.c_proj": ("mlp", "down"),
}


def sites_of(names: Iterable[str], run: RunInfo | None) -> dict[str, Address]:
    """The address of each name: by what ``run`` was imported from, else canonically or by known paths.

    Raises :class:`ImportRefusedError` naming those that are none, or two that are the same.
    """
    names = list(dict.fromkeys(names))
    known = {} if run is None else _of_run(run)
    found: dict[str, Address] = {}
    unknown: list[str] = []
    for name in names:
        address = known.get(name) or _parsed(name, names)
        if address is None:
            unknown.append(name)
        elif address in found.values():
            raise ImportRefusedError(f"two layers of the file are {address}, one of them {name[:80]}")
        else:
            found[name] = address
    if unknown:
        hint = "import the run they belong to, and add the file to it with --into"
        raise ImportRefusedError(
            f"the file has layers of no known model: {', '.join(name[:80] for name in unknown[:5])}",
            hint if run is None else f"the layers of {run.name} are {', '.join(list(known)[:5])} …",
        )
    return found


def _of_run(run: RunInfo) -> dict[str, Address]:
    paths = {site.source_path: site.parsed for site in run.sites if site.source_path is not None}
    return {site.address: site.parsed for site in run.sites} | paths


def _parsed(name: str, names: list[str]) -> Address | None:
    try:
        address = parse_address(name)
    except AddressError:
        pass
    else:
        return address if address.is_site else None
    early, path = _EARLY.fullmatch(name), _PATH.fullmatch(name)
    try:
        if early is not None:
            gated = any(found[2] == "gate" for other in names if (found := _EARLY.fullmatch(other)))
            return Address(int(early[1]), "glu" if gated else "mlp", early[2])
        if path is not None:
            return _of_path(int(path[1]), path[2].removeprefix("self_"), names)
    except AddressError:
        pass
    return None


def _of_path(block: int, module: str, names: list[str]) -> Address | None:
    modules = {found[2].removeprefix("self_") for name in names if (found := _PATH.fullmatch(name))}
    if module == "mlp.down_proj":
        gated, plain = modules & {"mlp.gate_proj", "mlp.up_proj"}, "mlp.c_fc" in modules
        if not gated and not plain:
            raise ImportRefusedError(
                "the file does not tell whether mlp.down_proj belongs to a gated MLP",
                "import the run it was computed on, and add the file to it with --into",
            )
        return Address(block, "glu" if gated else "mlp", "down")
    if module == "attn.o_proj" and "attn.c_attn" in modules:
        return Address(block, "attn_fused", "o")
    kind = _MODULES.get(module)
    return None if kind is None else Address(block, *kind)
