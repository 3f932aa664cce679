"""Who may ask, and that no request reaches a file that it should not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from backend.cli.serve import make_settings
from backend.settings import Settings, is_loopback
from tests.backend.conftest import get_as_written, served

TOKEN = "a-token-for-these-tests"


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.7",
        "",
        "evil@127.0.0.1",
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/runs", "/api/health", "/nothing"])
def test_other_host_names_are_refused(client: httpx.Client, host: str, path: str) -> None:
    assert code(client.get(path, headers={"Host": host})) == (400, "bad_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "127.0.0.1:99", "[::1]:8642"])
def test_names_of_this_machine_are_served(client: httpx.Client, host: str) -> None:
    assert client.get("/api/runs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_foreign_pages_are_refused(client: httpx.Client, headers: dict[str, str]) -> None:
    assert code(client.get("/api/runs", headers=headers)) == (403, "foreign_origin")
    answer = client.post("/api/runs/llama/components:batch", json={"keys": ["embed:1"]}, headers=headers)
    assert code(answer) == (403, "foreign_origin")


def test_the_own_page_is_served(client: httpx.Client) -> None:
    own = f"http://{client.base_url.host}:{client.base_url.port}"
    headers = {"Origin": own, "Sec-Fetch-Site": "same-origin"}
    assert (
        client.post(
            "/api/runs/llama/components:batch", json={"keys": ["embed:1"]}, headers=headers
        ).status_code
        == 200
    )


def test_a_link_from_elsewhere_opens_the_page(client: httpx.Client) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/runs/llama", headers=headers).status_code == 200


def test_there_is_no_cors(client: httpx.Client) -> None:
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = client.options("/api/runs/llama/components:batch", headers=headers)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert not [name for name in client.get("/api/runs").headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "path", ["/", "/api/runs", "/api/nothing", "/assets/index-abc123.js", "/api/runs/nope"]
)
def test_headers_on_every_answer(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "script-src 'self';" in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


# ---- token --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(runs_folder: Path, page: Path) -> Iterator[httpx.Client]:
    with served(Settings(runs=runs_folder, page=page, token=TOKEN)) as client:
        yield client


def test_without_the_token_nothing_is_told(guarded: httpx.Client) -> None:
    for path in ("/api/runs", "/api/runs/llama", "/api/nothing", "/api/openapi.json", "/api"):
        answer = guarded.get(path)
        assert code(answer) == (401, "token_required")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert guarded.get("/api/health").status_code == 200
    assert guarded.get("/").status_code == 200


@pytest.mark.parametrize("wrong", ["x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ü" * 5])
def test_wrong_tokens(guarded: httpx.Client, wrong: str) -> None:
    assert guarded.get("/api/runs", params={"token": wrong}).status_code == 401
    assert guarded.get("/api/runs", headers={"Authorization": f"Bearer {wrong}".encode()}).status_code == 401
    assert guarded.get("/api/runs", headers={"Authorization": f"Basic {TOKEN}"}).status_code == 401
    assert (
        guarded.get("/api/runs", headers={"Cookie": f"tributary_token={wrong}".encode()}).status_code == 401
    )


def test_the_token_opens_the_api(guarded: httpx.Client) -> None:
    assert guarded.get("/api/runs", params={"token": TOKEN}).status_code == 200
    assert guarded.get("/api/runs", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_opening_the_page_with_the_token_keeps_it(guarded: httpx.Client) -> None:
    answer = guarded.get("/runs/llama", params={"token": TOKEN, "metric": "attr_abs"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/runs/llama?metric=attr_abs"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    with httpx.Client(base_url=guarded.base_url) as browser:
        value = answer.headers["set-cookie"].split(";")[0]
        assert browser.get("/api/runs", headers={"Cookie": value}).status_code == 200
    wrong = guarded.get("/runs/llama", params={"token": "wrong"})
    assert "set-cookie" not in wrong.headers


def test_the_redirect_stays_here(guarded: httpx.Client) -> None:
    assert get_as_written(guarded, f"//evil.example/x?token={TOKEN}").headers["location"] == "/evil.example/x"


def test_a_token_is_made_up_where_others_can_reach_the_server(tmp_path: Path) -> None:
    settings = make_settings("0.0.0.0", 0, tmp_path, ())
    assert settings.token is not None
    assert len(settings.token) >= 24
    assert make_settings("127.0.0.1", 0, tmp_path, ()).token is None
    assert make_settings("0.0.0.0", 0, tmp_path, ()).token != settings.token


def test_where_others_can_reach_it_addresses_are_served_and_foreign_names_are_not(
    runs_folder: Path, page: Path
) -> None:
    # The test's socket is on loopback all the same: what matters is what the settings say.
    settings = Settings(
        runs=runs_folder, page=page, host="0.0.0.0", token=TOKEN, allowed_hosts=("lab.example",)
    )
    with served(settings) as client:
        client.params = {"token": TOKEN}
        for host in ("10.1.2.3:8642", "[fd00::1]:8642", "lab.example", "localhost"):
            assert client.get("/api/runs", headers={"Host": host}).status_code == 200
        assert code(client.get("/api/runs", headers={"Host": "evil.example"})) == (400, "bad_host")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("127.8.8.8", True),
        ("0.0.0.0", False),
        ("lab", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets/%2e%2e%5c%2e%2e%5csecret.txt",
        "//secret.txt",
        "/./../secret.txt",
        "/..%00/secret.txt",
        "/etc/passwd",
        "/assets/",
        "/api/../../secret.txt",
        "/api/runs/../../../secret.txt",
        "/api/runs/llama/components/../../../../secret.txt",
        "/api/runs/%2e%2e/components/0.attn.q:0",
        "/api/runs/llama%2fcorpus",
    ],
)
def test_no_path_leads_out(client: httpx.Client, path: str) -> None:
    answer = get_as_written(client, path)
    assert answer.status_code in (200, 404)
    assert "secret" not in answer.text.replace("secret.txt", "")
    assert "root:" not in answer.text
    if answer.status_code == 200:
        assert "<title>Tributary</title>" in answer.text


def test_names_of_runs_are_compared_and_never_joined(runs_folder: Path, page: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "outside").symlink_to(runs_folder / "llama")
    with served(Settings(runs=inner, page=page)) as client:
        for name in ("outside", "..%2foutside", "../outside", str(tmp_path / "outside").replace("/", "%2f")):
            assert get_as_written(client, f"/api/runs/{name}").status_code == 404
