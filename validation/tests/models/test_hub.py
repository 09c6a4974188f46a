"""The real hub client against a server on this machine that answers as the hub does."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from transformer_lens_fork.errors import InputError
from validation.models.checkpoints import resolve_checkpoint

MODEL = "meta-llama/Llama-3.1-8B"
COMMIT = "0" * 40


class _Hub(BaseHTTPRequestHandler):
    """Serves one repository, or refuses with a status and the hub's code for why.

    Attributes:
        refusal: status and `X-Error-Code`; None serves.
        folder: the repository's files.
    """

    refusal: ClassVar[tuple[int, str] | None] = None
    folder: ClassVar[Path]

    def do_HEAD(self) -> None:
        """A file's size and hash."""
        self.do_GET()

    def do_GET(self) -> None:
        """What the hub answers to `snapshot_download`."""
        if self.refusal:
            status, code = self.refusal
            self._answer(b'{"error": "as the hub says it"}', status, {"X-Error-Code": code})
        elif "/tree/" in self.path:
            files = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": COMMIT}
                for file in self.folder.iterdir()
            ]
            self._answer(json.dumps(files).encode())
        elif "/resolve/" in self.path:
            content = (self.folder / Path(self.path.partition("?")[0]).name).read_bytes()
            etag = hashlib.sha1(content).hexdigest()
            self._answer(content, headers={"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        else:
            self._answer(json.dumps({"id": MODEL, "sha": COMMIT, "siblings": []}).encode())

    def _answer(
        self, body: bytes, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def hub(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Hub]]:
    """A hub that the client asks instead; an empty cache, no token."""
    handler = type("Hub", (_Hub,), {"folder": checkpoint})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        files = "{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "ENDPOINT": address,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{address}/{files}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_TOKEN_PATH": str(tmp_path / "no-token"),
        }.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield handler
        server.shutdown()


def _refusal() -> str:
    with pytest.raises(InputError) as refusal:
        resolve_checkpoint(MODEL, lambda _: None)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_a_model_from_the_hub(hub: type[_Hub], checkpoint: Path) -> None:
    """Its files arrive, and are the same checkpoint as the folder that they came from."""
    assert hub.refusal is None
    found = resolve_checkpoint(MODEL, lambda _: None)
    assert found.name == MODEL
    assert found.sha256 == resolve_checkpoint(str(checkpoint), lambda _: None).sha256


def test_a_gate_without_a_token(hub: type[_Hub]) -> None:
    """Llama's weights are gated: the sentence says which variable is missing."""
    hub.refusal = (401, "GatedRepo")
    assert _refusal() == (
        f"--checkpoint: '{MODEL}' is gated and there is no token; HF_TOKEN of an account that "
        f"huggingface.co/{MODEL} lets in is accepted."
    )


def test_a_gate_that_refuses(hub: type[_Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of an account that has not been let in is another mistake."""
    hub.refusal = (403, "GatedRepo")
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    assert _refusal() == (
        f"--checkpoint: '{MODEL}' is gated and refuses the account of the token; one that "
        f"huggingface.co/{MODEL} lets in is accepted."
    )


def test_a_model_that_is_not_there(hub: type[_Hub]) -> None:
    """Nor can what is private be told from it."""
    hub.refusal = (404, "RepoNotFound")
    assert "the hub has no such model, or none that it shows" in _refusal()


def test_a_hub_in_trouble(hub: type[_Hub]) -> None:
    """Neither gate nor network: what it answered is said."""
    hub.refusal = (403, "SomethingElse")
    refusal = _refusal()
    assert "the hub does not give it (403 Forbidden" in refusal
    assert "as the hub says it" in refusal


def test_no_network(hub: type[_Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers at the hub's address."""
    assert hub.refusal is None
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    assert "the hub cannot be reached, and the hub's cache on this machine" in _refusal()


def test_a_network_that_is_not_to_be_used(hub: type[_Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE is the user's own choice, and is named."""
    assert hub.refusal is None
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set, and the hub's cache on this machine" in _refusal()
