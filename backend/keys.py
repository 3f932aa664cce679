"""Keys of components and nodes as they come in over HTTP: the grammar as a pattern, and a check with a clear message."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from compute.address import PROJECTIONS, parse_address, parse_key, parse_node_key

_NUMBER = "(?:0|[1-9][0-9]{0,8})"
_SITE = "[0-9]{1,4}\\.(?:" + "|".join(f"{kind}\\.(?:{'|'.join(p)})" for kind, p in PROJECTIONS.items()) + ")"
#: The grammar of compute.address as a regular expression, for the OpenAPI document.
KEY_PATTERN = f"^(?:(?:embed|position|output):{_NUMBER}|{_SITE}:(?:{_NUMBER}|delta|bias))$"
NODE_KEY_PATTERN = (
    f"^(?:(?:embed|position|output|target):{_NUMBER}:{_NUMBER}|{_SITE}:{_NUMBER}:(?:{_NUMBER}|delta|bias))$"
)
SITE_PATTERN = f"^{_SITE}$"


def _check_key(text: str) -> str:
    parse_key(text)  # an AddressError is a ValueError: pydantic reports its message
    return text


def _check_node_key(text: str) -> str:
    parse_node_key(text)
    return text


def _check_site(text: str) -> str:
    if not parse_address(text).is_site:
        raise ValueError(f"{text} is not a decomposed matrix; use the tokens route for tokens")
    return text


KeyText = Annotated[
    str,
    AfterValidator(_check_key),
    Field(
        json_schema_extra={"pattern": KEY_PATTERN, "examples": ["0.attn.q:17"]},
        description="<address>:<index>, e.g. 0.attn.q:17, embed:42, output:42, 1.glu.down:delta",
    ),
]
SiteText = Annotated[
    str,
    AfterValidator(_check_site),
    Field(json_schema_extra={"pattern": SITE_PATTERN, "examples": ["0.attn.q"]}),
]
NodeKeyText = Annotated[
    str,
    AfterValidator(_check_node_key),
    Field(
        json_schema_extra={"pattern": NODE_KEY_PATTERN, "examples": ["0.attn.q:3:17"]},
        description="<address>:<position>:<index>, e.g. 0.attn.q:3:17, embed:0:42, output:5:42, 1.glu.down:3:delta",
    ),
]
