"""A hub on this machine: a real HTTP server that speaks the part of the Hugging Face Hub's API that downloads use.

Point `HF_ENDPOINT` at `url`. It answers what huggingface_hub asks for: a dataset's description with its files
(`GET /api/datasets/REPO?blobs=true`), and `HEAD` and `GET` of `/datasets/REPO/resolve/COMMIT/PATH`, with `Range`.
Faults are set per file, and each happens as often as it was set; `requests` and `peak` tell what was asked.
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from research_loop.testing.loopback import Loopback

Dataset = Mapping[str, bytes]
"""Files of a dataset: path -> content."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong when a file is fetched.

    `cut`: the connection closes after `after` bytes of the body; `reset`: it is reset there; `stall`: nothing comes
    after them until the hub ends; `instead`: other bytes come under the right headers; `status`: this HTTP status comes
    instead of the file.
    """

    kind: Literal["cut", "reset", "stall", "instead", "status"]
    after: int = 0
    content: bytes = b""
    status: int = 503


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came in; `range` is its Range header."""

    method: str
    path: str
    range: str | None = None


@dataclass
class LoopbackHub:
    """Serves `datasets` (repository -> files) while the `with` block lasts.

    `refuse` is an HTTP status for every request, if set. With `meet`, each fetch of a file waits, 5 seconds at most,
    until that many have been under way at once.
    """

    datasets: Mapping[str, Dataset]
    refuse: int | None = None
    meet: int = 1
    requests: list[Request] = field(default_factory=list)
    peak: int = 0

    def __post_init__(self) -> None:
        self._faults: dict[str, list[Fault]] = {}
        self._under_way = 0
        self._changed = threading.Condition()
        self.ended = threading.Event()
        self.connections: set[socket.socket] = set()
        self._server = Loopback(type("Handler", (_Handler,), {"hub": self}))

    @property
    def url(self) -> str:
        return self._server.url

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Go down: nobody listens any more, and open connections end."""
        if self.ended.is_set():
            return
        self.ended.set()
        self._server.stop()
        for connection in self.connections.copy():  # kept alive by the client, they would be answered still
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def fail(self, path: str, *faults: Fault) -> None:
        """Let the next fetches of a file go wrong, one fault each; after them it is served whole."""
        self._faults.setdefault(path, []).extend(faults)

    def fetches(self, path: str) -> list[Request]:
        """The GET requests for a file so far."""
        return [request for request in self.requests if request.method == "GET" and request.path.endswith(f"/{path}")]

    def commit(self, repo: str) -> str:
        """The commit a dataset is at: it changes with the content."""
        described = [f"{path} {_sha256(content)}" for path, content in sorted(self.datasets[repo].items())]
        return hashlib.sha1("\n".join([repo, *described]).encode()).hexdigest()

    def describe(self, repo: str) -> dict[str, Any]:
        """What the hub's API says of a dataset."""
        files = [
            {
                "rfilename": path,
                "size": len(content),
                "blobId": hashlib.sha1(content).hexdigest(),
                "lfs": {"sha256": _sha256(content), "size": len(content), "pointerSize": 134},
            }
            for path, content in self.datasets[repo].items()
        ]
        return {"id": repo, "sha": self.commit(repo), "siblings": files}

    def next_fault(self, path: str) -> Fault | None:
        """Take the fault that the fetch of a file now under way is to have."""
        faults = self._faults.get(path)
        return faults.pop(0) if faults else None

    def enter(self) -> None:
        """A fetch begins: count it, and wait for the others that `meet` asks for."""
        with self._changed:
            self._under_way += 1
            self.peak = max(self.peak, self._under_way)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.peak >= self.meet, timeout=5)

    def leave(self) -> None:
        with self._changed:
            self._under_way -= 1


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.hub.connections.add(self.connection)

    def finish(self) -> None:
        self.hub.connections.discard(self.connection)
        super().finish()

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: `requests` is the log."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range")))
        if self.hub.refuse:
            return self._error(self.hub.refuse)
        for repo, files in self.hub.datasets.items():
            if path == f"/api/datasets/{repo}":
                return self._send(
                    200, json.dumps(self.hub.describe(repo)).encode(), {"Content-Type": "application/json"}
                )
            resolved = f"/datasets/{repo}/resolve/{self.hub.commit(repo)}/"
            if path.startswith(resolved) and path.removeprefix(resolved) in files:
                return self._file(repo, path.removeprefix(resolved))
        self._error(404)

    def _file(self, repo: str, path: str) -> None:
        content = self.hub.datasets[repo][path]
        if self.command == "HEAD":
            return self._send(200, content, self._about(repo, content))
        self.hub.enter()
        try:
            self._body(repo, content, self.hub.next_fault(path))
        finally:
            self.hub.leave()

    def _about(self, repo: str, content: bytes) -> dict[str, str]:
        digest = f'"{_sha256(content)}"'
        commit = self.hub.commit(repo)
        return {"ETag": digest, "X-Linked-Etag": digest, "X-Linked-Size": str(len(content)), "X-Repo-Commit": commit}

    def _body(self, repo: str, content: bytes, fault: Fault | None) -> None:
        if fault and fault.kind == "status":
            return self._error(fault.status)
        headers = self._about(repo, content) | {"Accept-Ranges": "bytes"}
        served = fault.content if fault and fault.kind == "instead" else content
        start, status = self._start(), 200
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(served) - 1}/{len(served)}"
            status = 206
        broken = fault if fault and fault.kind in ("cut", "reset", "stall") else None
        self._send(status, served[start:], headers, broken)

    def _start(self) -> int:
        """First byte asked for by `Range: bytes=N-`, the only form that resuming needs."""
        asked = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
        return int(asked) if asked else 0

    def _error(self, status: int) -> None:
        self._send(status, b"", {"X-Error-Code": "RepoNotFound"} if status == 404 else {})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], broken: Fault | None = None) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: broken.after] if broken else body)
        if broken:
            self.close_connection = True
            if broken.kind == "stall":
                self.hub.ended.wait()
            if broken.kind == "reset":  # closing with a linger time of zero sends RST, as a crashed peer does
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
