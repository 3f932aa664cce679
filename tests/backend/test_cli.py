"""The command line: documents, exit codes, one line for a mistake, a clean end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.cli import run
from backend.cli.options import visible
from backend.settings import Settings
from compute.address import parse_key
from storage.corpus import tokenize
from storage.run_directory import RunDirectory
from tests.support import tiny_run


class Result:
    """What a command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def tributary(capsys: pytest.CaptureFixture[str], runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command in this process, with the toy runs as the runs folder."""
    monkeypatch.setenv("TRIBUTARY_RUNS", str(runs_folder))

    def call(*arguments: str) -> Result:
        capsys.readouterr()
        code = run(list(arguments))
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


def start(*arguments: str, runs: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TRIBUTARY_RUNS": str(runs), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "backend.cli", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


# ---- documents ----------------------------------------------------------------------------------


def test_sources_as_json(tributary: Any, llama: RunDirectory) -> None:
    result = tributary("query", "llama", "sources", "1.glu.down:2", "-k", "3", "--json")
    assert (result.code, result.err) == (0, "")
    document = result.document
    assert document.keys() == {
        "status", "run", "key", "direction", "metric", "sign", "normalised", "unit", "tokens", "subrun",
        "entries", "total", "total_value", "shown_value", "seconds",
    }  # fmt: skip
    for entry in document["entries"]:
        assert entry.keys() == {
            "key", "address", "index", "kind", "value", "standard_error", "support", "label", "scale_free",
        }  # fmt: skip
    expected = llama.attributions().top_sources(parse_key("1.glu.down:2"), 3, "positive")
    assert [(e["key"], e["value"]) for e in document["entries"]] == [
        (str(e.key), e.value) for e in expected.entries
    ]
    assert (document["direction"], document["normalised"], document["tokens"]) == (
        "sources",
        True,
        expected.tokens,
    )


def test_every_option_of_a_query(tributary: Any, llama: RunDirectory) -> None:
    subrun = llama.attributions().subrun
    result = tributary(
        "query", "llama", "targets", "embed:40", "--metric", "attr_abs", "--sign", "negative", "-k", "4", "--raw",
        "--subrun", subrun, "--json",
    )  # fmt: skip
    document = result.document
    expected = llama.attributions().top_targets(
        parse_key("embed:40"), 4, "negative", "attr_abs", normalised=False
    )
    assert [e["value"] for e in document["entries"]] == [e.value for e in expected.entries]
    assert (document["metric"], document["sign"], document["normalised"]) == ("attr_abs", "negative", False)


def test_between_as_json(tributary: Any, llama: RunDirectory) -> None:
    document = tributary("query", "llama", "between", "embed:40", "1.attn.q:2", "--json").document
    expected = llama.attributions().attribution(parse_key("embed:40"), parse_key("1.attn.q:2"))
    assert (document["value"], document["raw"]) == (expected.value, expected.raw)
    assert (document["source"], document["target"], document["connected"]) == ("embed:40", "1.attn.q:2", True)


def test_runs_as_json(tributary: Any) -> None:
    document = tributary("runs", "--json").document
    assert {"llama", "gpt2", "bare"} <= {one["name"] for one in document["runs"]}


def test_verify_as_json(tributary: Any) -> None:
    result = tributary("verify", "llama", "--json")
    assert result.code == 0, result.out
    document = result.document
    assert document["ok"]
    names = {check["name"]: check["status"] for check in document["checks"]}
    assert names["model.safetensors"] == names["corpus"] == names["identity: exact forward"] == "ok"
    assert names["evaluation"] == "absent"
    assert any(name.startswith("attributions/") for name in names)


def test_verify_needs_no_document_that_was_held_out(
    tributary: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_run, "tokenize", lambda documents, tokenizer: tokenize(documents[:3], tokenizer))
    short = tiny_run.make_tiny_run(tmp_path / "short", attributions=False, statistics=False)
    assert not any(short.corpus().is_validation(number) for number in range(3))
    document = tributary("verify", str(short.path), "--json").document
    assert document["ok"]
    names = {check["name"]: check["status"] for check in document["checks"]}
    assert names["identity: exact forward"] == "ok"


def test_a_path_and_a_name_mean_the_same_run(tributary: Any, runs_folder: Path) -> None:
    arguments = ("sources", "1.glu.down:2", "--json")
    one = tributary("query", "llama", *arguments).document
    other = tributary("query", str(runs_folder / "llama"), *arguments).document
    assert {**one, "seconds": 0} == {**other, "seconds": 0}


# ---- words --------------------------------------------------------------------------------------


def test_tables(tributary: Any) -> None:
    result = tributary("query", "llama", "sources", "output:40", "-k", "3")
    assert result.code == 0
    lines = result.out.splitlines()
    assert "positive sources of output:40" in lines[0]
    assert "tokens" in lines[0]
    assert "3 of " in result.out
    assert "attr_frozen" in tributary("query", "llama", "sources", "0.attn.q:0").out  # the note on norms
    result = tributary("query", "llama", "between", "1.attn.q:2", "0.attn.q:2")
    assert "not connected" in result.out
    result = tributary("runs")
    assert "llama" in result.out
    assert "none" in result.out
    result = tributary("verify", "gpt2", "--no-identities")
    assert "everything holds" in result.out


def test_whitespace_is_visible() -> None:
    assert visible(" a\n\t\x00") == "␣a↵⇥\\x00"


def test_help_and_version(tributary: Any) -> None:
    for arguments in (("--help",), ()):
        result = tributary(*arguments)
        assert result.code == 0
        for name in (
            "demo",
            "serve",
            "runs",
            "query",
            "verify",
            "train-target",
            "decompose",
            "evaluate",
            "attribute",
        ):
            assert name in result.out
    assert tributary("--version").out.startswith("tributary ")
    assert "--batch-size" in tributary("attribute", "--help").out


# ---- mistakes -----------------------------------------------------------------------------------

MISTAKES = [
    (("query", "nope", "sources", "0.attn.q:1"), "no run called 'nope'"),
    (("query", "../llama", "sources", "0.attn.q:1"), "no run called"),
    (("query", "llama", "sources", "hello"), "not a key"),
    (("query", "llama", "sources", "0.attn.q:99"), "0 to 4"),
    (("query", "llama", "sources", "0.attn.q:1", "0.attn.q:2"), "takes one key"),
    (("query", "llama", "between", "0.attn.q:1"), "needs two keys"),
    (("query", "llama", "sources", "embed:1"), "source only"),
    (("query", "llama", "upwards", "0.attn.q:1"), "'sources', 'targets', 'between'"),
    (("query", "llama", "sources", "0.attn.q:1", "--metric", "other"), "attr_frozen"),
    (("query", "llama", "sources", "0.attn.q:1", "-k", "0"), "-k"),
    (("query", "llama", "sources", "0.attn.q:1", "--subrun", "x"), "no attributions called"),
    (("query", "llama"), "tributary query --help"),
    (("query", "bare", "sources", "0.attn.q:1"), "tributary attribute bare"),
    (("query", "gpt2", "sources", "output:1", "--metric", "attr_abs"), "--output-abs"),
    (("verify", "nope"), "no run called"),
    (("serve", "nope"), "no run called"),
    (("serve", "--port", "70000"), "--port"),
    (("serve", "--host", "not a host"), "not an address"),
    (("attribute", "nope"), "no run called"),
    (("train-target", "/nowhere.toml"), "no configuration"),
    (("nonsense",), "tributary --help"),
    (("--nonsense",), "tributary --help"),
]


@pytest.mark.parametrize(("arguments", "expected"), MISTAKES, ids=[" ".join(a)[:60] for a, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(
    tributary: Any, arguments: tuple[str, ...], expected: str
) -> None:
    result = tributary(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith("tributary: ")
    assert expected in result.err


def test_settings_in_the_environment_are_checked(tributary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIBUTARY_TOKEN", "short")
    result = tributary("serve")
    assert (result.code, "TRIBUTARY_TOKEN" in result.err) == (2, True)
    assert "short" not in result.err  # a token is not for a log
    assert tributary("runs").code == 0  # asks for no token, so it does not matter
    monkeypatch.setenv("TRIBUTARY_TOKEN", "")
    monkeypatch.setenv("TRIBUTARY_ALLOWED_HOSTS", "lab.example, other.example")
    assert Settings().token is None
    assert Settings().allowed_hosts == ("lab.example", "other.example")


def test_a_port_in_use(tributary: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = tributary("serve", "--port", str(taken.getsockname()[1]))
    assert (result.code, "--port" in result.err) == (2, True)


def test_damage_is_found_and_named(tributary: Any, runs_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(runs_folder / "llama", tmp_path / "copy")
    store = next((tmp_path / "copy" / "attributions").iterdir())
    file = max(store.glob("*.bin"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    result = tributary("verify", str(tmp_path / "copy"), "--no-identities", "--json")
    assert result.code == 1
    failed = [check for check in result.document["checks"] if check["status"] == "failed"]
    assert [check["name"] for check in failed] == [f"attributions/{store.name}"]
    assert file.name in failed[0]["detail"]
    assert not result.document["ok"]


# ---- processes ----------------------------------------------------------------------------------


def served_at(process: subprocess.Popen[str]) -> str:
    """The address that a server prints first."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert " at http://" in line, (
        process.stderr.read() if process.stderr and process.poll() is not None else line
    )
    return line.rpartition(" at ")[2].strip()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Press Ctrl-C; the exit code and standard error."""
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_serve_until_ctrl_c(runs_folder: Path) -> None:
    process = start("serve", "llama", "--port", "0", runs=runs_folder)
    url = served_at(process)
    answer = httpx.get(url + "api/runs", timeout=60)
    assert [one["name"] for one in answer.json()["runs"]] == ["llama"]
    code, err = ended(process)
    assert code == 130
    assert "Traceback" not in err


def test_a_token_is_printed_where_others_can_reach_the_server(runs_folder: Path) -> None:
    process = start("serve", "--host", "0.0.0.0", "--port", "0", runs=runs_folder)
    url = httpx.URL(served_at(process))
    token = url.params["token"]
    base = f"http://127.0.0.1:{url.port}/api/runs"
    assert httpx.get(base, timeout=60).status_code == 401
    assert httpx.get(base, params={"token": token}, timeout=60).status_code == 200
    assert ended(process)[0] == 130


def test_demo_takes_the_next_port(runs_folder: Path, tmp_path: Path) -> None:
    from storage.run_directory import DEMO_RUN

    if not (DEMO_RUN / "run.json").is_file():
        pytest.skip("the bundled run is not part of this checkout")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start("demo", "--no-browser", "--port", str(port), runs=runs_folder)
        url = httpx.URL(served_at(process))
        assert url.port is not None
        assert url.port > port
        assert [one["name"] for one in httpx.get(url.join("/api/runs"), timeout=60).json()["runs"]] == [
            "demo"
        ]
        assert ended(process)[0] == 130


def test_a_closed_pipe_ends_quietly(runs_folder: Path) -> None:
    process = start("query", "llama", "sources", "output:40", "-k", "1000", "--json", runs=runs_folder)
    assert process.stdout is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.wait(60)
    assert "Traceback" not in err


def test_help_is_quick_and_needs_no_torch(runs_folder: Path) -> None:
    code = (
        "import resource, sys\n"
        "from backend.cli import run\n"
        "assert run(['--help']) == 0\n"
        "assert 'torch' not in sys.modules and 'fastapi' not in sys.modules\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime, file=sys.stderr)\n"
    )
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    # Processor time, so that a busy machine does not fail it.
    assert float(done.stderr) < 0.6, time.perf_counter() - started


# ---- prompt graphs ------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", ["node", "off", "through"])
def test_a_graph_as_a_document(tributary: Any, llama: RunDirectory, delta: str) -> None:
    import torch

    from backend.pipelines.load import load_decomposition
    from compute.attribution.prompt import PromptSettings, prompt_graph

    result = tributary("graph", "llama", "--text", "the fox", "--delta", delta, "--json")
    assert (result.code, result.err) == (0, "")
    found = result.document
    assert found.keys() == {"run", "tokens", "delta", "nodes", "edges", "omitted", "seconds"}
    assert (found["run"], found["delta"]) == ("llama", delta)
    assert found["tokens"] == llama.tokenizer().encode("the fox").ids
    expected = prompt_graph(
        load_decomposition(llama), torch.tensor(found["tokens"]), PromptSettings(delta=delta)
    )
    assert [node["key"] for node in found["nodes"]] == expected.nodes.keys()
    assert all(node.keys() == {"key", "ci", "activation"} for node in found["nodes"])
    assert found["edges"].keys() == {"source", "target", "attr", "attr_abs"}
    assert found["edges"]["source"] == expected.edges.source.tolist()
    assert found["edges"]["target"] == expected.edges.target.tolist()
    assert found["edges"]["attr"] == pytest.approx(expected.edges.attr.tolist(), rel=1e-6)
    assert found["edges"]["attr_abs"] == pytest.approx(expected.edges.attr_abs.tolist(), rel=1e-6)
    assert found["omitted"] == {"edges": 0, "share": 0}
    assert found["seconds"] > 0


def test_a_graph_as_a_table(tributary: Any) -> None:
    result = tributary("graph", "llama", "--text", "the fox", "-k", "3", "--max-edges", "40")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert "th|e|␣|f|o|x" in lines[0]
    assert "40 edges" in lines[1]
    assert sum("█" in line for line in lines) == 3
    assert "3 of 40 edges" in result.out
    assert "were left out" in result.out


def test_graphs_that_cannot_be(tributary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, words in (
        (("llama", "--text", ""), "empty"),
        (("llama", "--text", "z" * 40), "40 tokens; the model reads 32"),
        (("nope", "--text", "a"), "no run called"),
        (("llama",), "--text"),
        (("llama", "--text", "a", "--delta", "x"), "delta"),
        (("llama", "--text", "a", "--device", "cuda:7"), "CUDA"),
    ):
        result = tributary("graph", *arguments)
        assert (result.code, result.out) == (2, "")
        assert words in result.err
        assert len(result.err.splitlines()) == 1
    monkeypatch.setenv("TRIBUTARY_MEMORY_LIMIT", str(2**20))
    result = tributary("graph", "llama", "--text", "the quick brown fox jumps")
    assert result.code == 2
    assert "1.0 MiB are allowed" in result.err
