"""A Hub on 127.0.0.1, in memory: what huggingface_hub, transformers, peft and datasets ask of the real one.

Repositories are named as in the Hub's addresses: `org/name` is a model, `datasets/org/name` a data set. Unlike the
real Hub, large files are answered directly instead of by a redirect to another host, so that a fault finds them under
their name (`/org/name/resolve/main/adapter_model.safetensors`).
"""

import contextlib
import json
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import tests.hub.loopback_reads  # noqa: F401 - registers its routes
from tests.hub.faults import Fault, FaultPlan
from tests.hub.loopback_routes import Answer, answer_request
from tests.hub.loopback_store import GITATTRIBUTES, Account, Blob, Commit, HubError, Repo, Request, is_lfs

__all__ = ["Account", "Blob", "Commit", "Fault", "HubError", "LoopbackHub", "Repo", "Request"]


class LoopbackHub:
    """The Hub. Use it as a context manager, or call `start` and `stop`.

    Args:
        accounts: whom each token stands for. As given, `token` may do everything and `reader` reads what is public.
        seed: of the faults that strike by chance.

    Attributes:
        log: every request in the order of arrival.
        errors: tracebacks of what went wrong inside the server itself; a test should find none.
        faults: the plan that `inject` adds to.
    """

    def __init__(self, accounts: Mapping[str, Account] | None = None, seed: int = 0):
        self.accounts = dict(accounts or {"token": Account("me"), "reader": Account("reader", frozenset())})
        self.faults = FaultPlan(seed)
        self.log: list[Request] = []
        self.errors: list[str] = []
        self.lock = threading.RLock()
        self._repos: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self._server: HubServer | None = None

    @property
    def url(self) -> str:
        """The address to give as HF_ENDPOINT."""
        assert self._server is not None, "the hub is not started"
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> "LoopbackHub":
        """Serve on a free port, in threads of this process."""
        self._server = HubServer(self)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop serving; what is stored can still be read."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def __enter__(self) -> "LoopbackHub":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def inject(self, *faults: Fault) -> None:
        """Add faults to those that strike coming requests."""
        self.faults.add(*faults)

    def requests(self, pattern: str = "") -> list[Request]:
        """The requests whose `METHOD /path STATUS` holds a regular expression."""
        return [request for request in list(self.log) if re.search(pattern, str(request))]

    def add_repo(
        self, repo: str, files: Mapping[str, bytes | str] | None = None, *, private: bool = False, gated: bool = False
    ) -> Repo:
        """Make a repository with one commit that holds .gitattributes, as on the Hub, and one with `files` if given.

        Raises:
            HubError: 409, there is one of this name.
        """
        with self.lock:
            if repo in self._repos:
                raise HubError(409, f"You already created this repo: {repo}")
            made = self._repos[repo] = Repo(repo, private, gated)
            first = {".gitattributes": Blob(GITATTRIBUTES.encode())}
            made.append("main", Commit("", None, first, "initial commit"))
            if files:
                self.write(repo, files)
            return made

    def repo(self, repo: str) -> Repo:
        """The repository of this name.

        Raises:
            HubError: 404 RepoNotFound.
        """
        if repo not in self._repos:
            raise HubError(404, "Repository not found", "RepoNotFound")
        return self._repos[repo]

    def repos(self) -> list[str]:
        """The names of all repositories."""
        return sorted(self._repos)

    def remove_repo(self, repo: str) -> None:
        """Delete a repository."""
        with self.lock:
            self.repo(repo)
            del self._repos[repo]

    def files(self, repo: str, revision: str = "main") -> list[str]:
        """Sorted paths of a revision, .gitattributes among them."""
        return sorted(self.repo(repo).commit_at(revision).files)

    def read(self, repo: str, path: str, revision: str = "main") -> bytes:
        """The content of one file.

        Raises:
            HubError: 404 EntryNotFound.
        """
        return self.blob(self.repo(repo).commit_at(revision), path).data

    def write(
        self, repo: str, files: Mapping[str, bytes | str | None], *, branch: str = "main", title: str = "write"
    ) -> str:
        """Commit contents directly, without HTTP; None deletes. Returns the commit's hash."""
        with self.lock:
            store = self.repo(repo)
            head = store.commit_at(branch)
            after = dict(head.files)
            for path, data in files.items():
                after.pop(path, None)
                if data is not None:
                    data = data.encode() if isinstance(data, str) else data
                    after[path] = Blob(data, is_lfs(path, len(data)))
                    self.lfs[after[path].sha256] = data
            return store.append(branch, Commit("", head.oid, after, title)).oid

    def tag(self, repo: str, tag: str, revision: str = "main") -> None:
        """Set a tag."""
        self.repo(repo).tags[tag] = self.repo(repo).commit_at(revision).oid

    def commits(self, repo: str, revision: str = "main") -> list[Commit]:
        """The commits of a revision, newest first; the last is the Hub's own `initial commit`."""
        return self.repo(repo).history(revision)

    @staticmethod
    def blob(commit: Commit, path: str) -> Blob:
        """One file of a commit, or 404 EntryNotFound."""
        if path not in commit.files:
            raise HubError(404, "Entry not found", "EntryNotFound")
        return commit.files[path]


class HubServer(ThreadingHTTPServer):
    """The socket; every request knows its hub."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: LoopbackHub):
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the game; anything else is a mistake of this file."""
        if not isinstance(sys.exception(), ConnectionError):
            self.hub.errors.append(traceback.format_exc())


class Handler(BaseHTTPRequestHandler):
    """HTTP: reads a request, asks the routes, applies a fault, answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the console."""

    def do_GET(self) -> None:
        hub = self.server.hub
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        request = Request(self.command, unquote(parts.path), parts.query, dict(self.headers.items()), data, parts.path)
        hub.log.append(request)
        fault = hub.faults.choose(request.method, request.path)
        request.fault = fault.kind if fault else None
        if fault and fault.kind == "drop":
            return self._hang_up()
        if fault and fault.kind == "status":
            wait = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
            answer = Answer({"error": "injected"}, fault.status, wait)
        else:
            answer = answer_request(hub, request)
        if fault and fault.kind == "lose_answer":
            return self._hang_up()
        request.status = answer.status
        self._send(answer, fault)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        kind = "application/octet-stream" if isinstance(answer.body, bytes) else "application/json"
        for key, value in {"Content-Length": str(len(body)), "Content-Type": kind, **answer.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is None or fault.kind == "status":
            self.wfile.write(body)
        elif fault.kind == "truncate":
            self.wfile.write(body[: fault.after])
            self._hang_up()
        elif fault.kind == "corrupt":
            flipped = bytearray(body)
            flipped[fault.after] ^= 1
            self.wfile.write(flipped)
        else:
            for start in range(0, len(body), fault.chunk):
                self.wfile.write(body[start : start + fault.chunk])
                time.sleep(fault.delay_s)
