"""What is fetched from the model hub by name, and what is said where it cannot be."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.importing import ImportRefusedError, import_run
from backend.importing.options import Finding, ImportedRun, ImportOptions
from storage.run_directory import RunDirectory
from tests.importing.changing import Changeable

Copy = Callable[..., Changeable]


def _import(run: Changeable, **options: Any) -> ImportedRun:
    given: dict[str, Any] = {"runs": run.runs, "target": None, "tokenizer": None}
    return import_run(run.path, ImportOptions(**(given | options)))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, dict[str, Path]]]:
    """A server that hands out files as the model hub does: its address, and its files by path."""
    files: dict[str, Path] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> bytes | None:
            file = files.get(self.path)
            content = None if file is None else file.read_bytes()
            self.send_response(404 if content is None else 200)
            if content is not None:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            return content

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self.wfile.write(self._answer() or b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", files
    server.shutdown()
    server.server_close()


def _use(address: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT and HF_HOME say, which the client reads when it is first imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))


def test_configuration_and_tokenizer_are_fetched_by_name(
    changeable: Copy, hub: tuple[str, dict[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, files = hub
    _use(address, tmp_path, monkeypatch)
    run = changeable(family="LlamaForCausalLM")
    run.edit(lambda c: c.update(pretrained_model_name="someone/a-model", tokenizer_name="someone/words"))
    with pytest.raises(ImportRefusedError) as refused:
        _import(run)
    assert (
        "someone/a-model) is not there (fetching config.json of someone/a-model failed"
        in refused.value.message
    )
    assert "--target" in refused.value.hint
    files["/someone/a-model/resolve/main/config.json"] = run.target / "config.json"
    imported = _import(run, name="no-words")
    assert "fetching tokenizer.json of someone/words failed" in imported.warnings[0]
    assert not RunDirectory.open(imported.path).info.tokenizer
    files["/someone/words/resolve/main/tokenizer.json"] = run.tokenizer
    imported = _import(run)
    assert Finding("tokenizer", "someone/words, model hub") in imported.found
    assert RunDirectory.open(imported.path).tokenizer().get_vocab_size() > 10
    # Both are in the client's cache now; with nobody listening they are still found.
    _use("http://127.0.0.1:9", tmp_path, monkeypatch)
    for offline in (False, True):
        cached = _import(run, offline=offline, name=f"cached-{offline}")
        assert RunDirectory.open(cached.path).info.tokenizer
    run.edit(lambda c: c.update(pretrained_model_name="someone/another-model"))
    with pytest.raises(ImportRefusedError, match=r"the model hub \(127.0.0.1\) cannot be reached"):
        _import(run, name="out-of-reach")


def test_published_weights_in_a_class_of_the_public_code(
    changeable: Copy, hub: tuple[str, dict[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use(hub[0], tmp_path, monkeypatch)
    run = changeable(family="GPT2Simple", layout="B")
    described = yaml.safe_load((run.target / "model_config.yaml").read_text())
    described = {"n_positions": described.pop("block_size"), "architectures": ["GPT2LMHeadModel"]} | described
    del described["model_type"]
    (tmp_path / "config.json").write_text(json.dumps(described))
    hub[1]["/someone/gpt2/resolve/main/config.json"] = tmp_path / "config.json"
    spec = {
        "kind": "hf_weights_in_vendored",
        "model_class": "lab.models.GPT2Simple",
        "model_name": "someone/gpt2",
    }
    run.edit(lambda c: c["target"].update(spec=spec))
    imported = _import(run)
    assert "GPT2Simple: 2 blocks of width 16" in {f.name: f.value for f in imported.found}["target"]
