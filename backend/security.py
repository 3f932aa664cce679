"""Who may ask: checks before every request, and headers on every answer.

A browser lets any page send requests to a server on the same machine. Two checks stop that. The Host
header must name this server: a foreign name that was made to resolve to this machine (DNS rebinding)
does not, while an IP address in it cannot be rebound. And a request that a browser marks as coming
from another origin is refused, whatever it asks for; there is no CORS. Where the server can be
reached from other machines, the API also asks for a token.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.errors import error_response
from backend.schemas import ErrorBody
from backend.settings import Settings, is_loopback

_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]"}
#: Largest request body: a selection or a workspace of many thousand nodes.
MAX_BODY = 4 << 20
#: Largest file that is read back: a graph, or labels.
MAX_IMPORT = 64 << 20
COOKIE = "tributary_token"

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "style-src-attr 'unsafe-inline'",  # positions and widths computed by the page's own code
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # an address may hold the token
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def _host_name(host: str) -> str:
    """``"[::1]:80"`` → ``"[::1]"``, ``"Name:80"`` → ``"name"``."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


class SecurityMiddleware:
    """Pure ASGI, so that it costs nothing per chunk and sees every request, unknown routes included."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._token = settings.token
        self._public = not settings.on_loopback
        self._names = _LOOPBACK_NAMES | {name.lower() for name in settings.allowed_hosts}
        if self._public:
            self._names |= {settings.host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}

    def _host_allowed(self, host: str) -> bool:
        name = _host_name(host)
        return name in self._names or is_loopback(name.strip("[]")) or (self._public and _is_ip(name))

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, ErrorBody] | None:
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._host_allowed(host):
            return 400, ErrorBody(
                code="bad_host",
                message="The Host header does not name this server",
                hint="Use the address that the server printed, or allow the name with TRIBUTARY_ALLOWED_HOSTS.",
            )
        origin = headers.get("origin")
        own = {f"http://{host}", f"https://{host}"}
        api = scope["path"] == "/api" or scope["path"].startswith("/api/")
        cross = api and headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
        if (origin is not None and origin.lower() not in {o.lower() for o in own}) or cross:
            return 403, ErrorBody(
                code="foreign_origin",
                message="Pages of other sites may not use this server",
                hint="Open the page that this server serves, or ask without a browser.",
            )
        if api and self._token and scope["path"] != "/api/health" and not self._has_token(scope, headers):
            return 401, ErrorBody(
                code="token_required",
                message="The token is missing or wrong",
                hint="Open the address with ?token=… that the server printed, or send Authorization: Bearer ….",
            )
        # A body sent in chunks does not say how long it is; nobody needs one here.
        length = headers.get("content-length", "0")
        limit = MAX_IMPORT if scope["path"].endswith(("/graphs:import", "/labels:import")) else MAX_BODY
        if "transfer-encoding" in headers or not length.isdigit() or int(length) > limit:
            return 413, ErrorBody(
                code="too_large",
                message=f"The request is larger than {limit:,} bytes, or does not say how large it is",
                hint="Send less at once, with a Content-Length; a large graph can be computed with a max_edges.",
            )
        return None

    def _matches(self, candidate: str) -> bool:
        return self._token is not None and hmac.compare_digest(candidate.encode(), self._token.encode())

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._matches(bearer.strip()):
            return True
        if self._matches(dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token", "")):
            return True
        return self._matches(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer[name] = value
                if scope["path"].startswith("/api"):
                    answer.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            response = error_response(*refusal)
            if refusal[0] == 401:
                response.headers["WWW-Authenticate"] = "Bearer"
            await response(scope, receive, send_with_headers)
            return
        login = self._login(scope)
        await (login or self._app)(scope, receive, send_with_headers)

    def _login(self, scope: Scope) -> RedirectResponse | None:
        """Opening the page with ``?token=…`` keeps it in a cookie and takes it out of the address."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(query).get("token")
        if given is None or scope["path"].startswith("/api") or not self._matches(given):
            return None
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        # A path that begins with two slashes would be read as another host.
        path = "/" + scope["path"].lstrip("/\\")
        response = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
        response.set_cookie(COOKIE, given, httponly=True, samesite="strict", path="/")
        return response
