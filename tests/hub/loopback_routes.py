"""The Hub's HTTP API: one function for each address, given the call and the parts of the address. Here what writes."""

import base64
import json
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

import yaml

from tests.hub.loopback_store import Account, Blob, Commit, HubError, Repo, Request, is_lfs

if TYPE_CHECKING:
    from tests.hub.loopback import LoopbackHub

PAGE = 1000


@dataclass
class Answer:
    """What is sent back: bytes as they are, anything else as JSON."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One request on its way through a route."""

    hub: "LoopbackHub"
    request: Request
    account: Account | None

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.request.data or b"{}")

    @property
    def form(self) -> dict[str, list[Any]]:
        """The body as lists of values, be it a form or JSON."""
        if self.request.data.startswith(b"{"):
            return {key: value if isinstance(value, list) else [value] for key, value in self.json.items()}
        return dict(parse_qs(self.request.data.decode()))

    def query(self, key: str) -> str | None:
        return parse_qs(self.request.query).get(key, [None])[0]

    def readable(self, kind: str, name: str, *, contents: bool = False) -> Repo:
        """The repository, if the caller may see it (and its contents)."""
        repo = self.hub.repo(name if kind in ("", "models") else f"{kind}/{name}")
        owns = self.account is not None and self.account.owns(repo)
        status = 401 if self.account is None else 404
        if repo.private and not owns:
            raise HubError(status, "Repository not found", "RepoNotFound")
        if repo.gated and contents and not owns:
            raise HubError(401 if self.account is None else 403, f"Access to {repo.id} is restricted", "GatedRepo")
        return repo

    def writable(self, kind: str, name: str) -> Repo:
        """The repository, if the caller may write to it."""
        repo = self.readable(kind, name)
        self.may_write(repo.namespace)
        return repo

    def may_write(self, namespace: str) -> Account:
        """The account; 401 or 403 if it has no right to write in a namespace."""
        if self.account is None:
            raise HubError(401, "Invalid username or password.")
        if self.account.namespaces is not None and namespace not in self.account.namespaces:
            raise HubError(403, f"You don't have the rights to write under the namespace {namespace!r}")
        return self.account


Route = Callable[..., Answer]
ROUTES: list[tuple[str, re.Pattern[str], Route]] = []
REPO = r"/api/(models|datasets|spaces)/([^/]+(?:/[^/]+)??)"
PLACE = r"/(?:(datasets|spaces)/)?([^/]+(?:/[^/]+)?)"


def route(methods: str, pattern: str) -> Callable[[Route], Route]:
    """Serve `methods` of addresses that match `pattern` in full; its groups are the function's arguments."""

    def register(function: Route) -> Route:
        ROUTES.append((methods, re.compile(pattern), function))
        return function

    return register


def answer_request(hub: "LoopbackHub", request: Request) -> Answer:
    """Find the route of a request and let it answer; refusals and mistakes become answers too."""
    try:
        call = Call(hub, request, None)
        call.account = _account(call)
        for methods, pattern, function in ROUTES:
            # The quoted address: a revision or path may hold a slash, which the client sends as %2F.
            if request.method in methods.split("|") and (match := pattern.fullmatch(request.raw_path)):
                with hub.lock:
                    return function(call, *(unquote(group or "") for group in match.groups()))
        raise HubError(501, f"not served: {request.method} {request.path}")
    except HubError as error:
        headers = {"X-Error-Message": str(error)} | ({"X-Error-Code": error.code} if error.code else {})
        return Answer({"error": str(error)}, error.status, headers)
    except Exception as error:
        hub.errors.append(f"{request}\n{traceback.format_exc()}")
        return Answer({"error": repr(error)}, 500)


def _account(call: Call) -> Account | None:
    given = call.request.header("Authorization")
    if given is None:
        return None
    account = call.hub.accounts.get(given.removeprefix("Bearer "))
    if account is None:
        raise HubError(401, "Invalid credentials in Authorization header")
    return account


# --- accounts and repositories


@route("GET", "/api/whoami-v2")
def whoami(call: Call) -> Answer:
    if call.account is None:
        raise HubError(401, "Invalid username or password.")
    role = "read" if call.account.namespaces == frozenset() else "write"
    orgs = [{"type": "org", "name": name} for name in sorted(call.account.namespaces or ())]
    token = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": role}}
    return Answer({"type": "user", "name": call.account.name, "orgs": orgs, "auth": token})


@route("GET", "/api/agent-harnesses")
def agent_harnesses(call: Call) -> Answer:
    return Answer({"standardEnvVars": [], "harnesses": {}})


def _named(call: Call) -> str:
    want = call.json
    kind = want.get("type") or "model"
    prefix = "" if kind == "model" else f"{kind}s/"
    owner = want.get("organization") or (call.account.name if call.account else "")
    return f"{prefix}{owner}/{want['name']}"


@route("POST", "/api/repos/create")
def create(call: Call) -> Answer:
    name = _named(call)
    call.may_write(name.split("/")[-2])
    private = call.json.get("visibility") == "private" or bool(call.json.get("private"))
    url = {"url": f"{call.hub.url}/{name}", "name": name, "id": name}
    if name in call.hub.repos():
        return Answer({**url, "error": "You already created this repo"}, 409)
    call.hub.add_repo(name, private=private)
    return Answer(url)


@route("DELETE", "/api/repos/delete")
def delete(call: Call) -> Answer:
    name = _named(call)
    call.may_write(name.split("/")[-2])
    call.hub.remove_repo(name)
    return Answer({})


@route("PUT", REPO + "/settings")
def settings(call: Call, kind: str, name: str) -> Answer:
    repo, want = call.writable(kind, name), call.json
    if "visibility" in want or "private" in want:
        repo.private = bool(want.get("private")) or want.get("visibility") == "private"
    repo.gated = bool(want.get("gated", repo.gated))
    return Answer({"private": repo.private})


@route("GET", REPO + "/auth-check(/write)?")
def auth_check(call: Call, kind: str, name: str, write: str) -> Answer:
    call.writable(kind, name) if write else call.readable(kind, name, contents=True)
    return Answer({})


@route("POST", "/api/validate-yaml")
def validate_yaml(call: Call) -> Answer:
    try:
        card = card_data(call.json["content"])
    except yaml.YAMLError as error:
        return Answer({"errors": [{"message": str(error)}], "warnings": []}, 400)
    warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
    return Answer({"errors": [], "warnings": warnings})


def card_data(readme: str) -> dict[str, Any]:
    """The YAML between the first two lines of three dashes; empty if there is none."""
    match = re.match(r"---\r?\n(.*?)\r?\n---\s*(\n|$)", readme, re.DOTALL)
    data = yaml.safe_load(match[1]) if match else None
    if data is not None and not isinstance(data, dict):
        raise yaml.YAMLError("the metadata is no mapping")
    return data or {}


# --- upload


@route("POST", REPO + "/preupload/([^/]+)")
def preupload(call: Call, kind: str, name: str, revision: str) -> Answer:
    commit = call.writable(kind, name).commit_at(revision)
    files = []
    for want in call.json["files"]:
        known = commit.files.get(want["path"])
        mode = "lfs" if is_lfs(want["path"], want["size"]) else "regular"
        # What the client compares with: sha256 of large files, Git's hash of the others.
        oid = known.etag if known and known.lfs == (mode == "lfs") else None
        files.append({"path": want["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return Answer({"files": files, "commitOid": commit.oid})


@route("POST", PLACE + r"\.git/info/lfs/objects/batch")
def lfs_batch(call: Call, kind: str, name: str) -> Answer:
    call.writable(kind, name)
    objects = []
    for want in call.json["objects"]:
        entry = {"oid": want["oid"], "size": want["size"], "authenticated": True}
        if want["oid"] not in call.hub.lfs:
            places = {"upload": want["oid"], "verify": "verify"}
            entry["actions"] = {key: {"href": f"{call.hub.url}/lfs/{place}"} for key, place in places.items()}
        objects.append(entry)
    return Answer({"transfer": "basic", "objects": objects})


@route("PUT", "/lfs/([0-9a-f]{64})")
def lfs_put(call: Call, oid: str) -> Answer:
    if Blob(call.request.data).sha256 != oid:
        raise HubError(400, "the content does not have the announced sha256")
    call.hub.lfs[oid] = call.request.data
    return Answer()


@route("POST", "/lfs/verify")
def lfs_verify(call: Call) -> Answer:
    if len(call.hub.lfs.get(call.json["oid"], b"")) != call.json["size"]:
        raise HubError(404, "the object was not uploaded")
    return Answer({})


@route("POST", REPO + "/commit/([^/]+)")
def create_commit(call: Call, kind: str, name: str, revision: str) -> Answer:
    repo = call.writable(kind, name)
    account = call.may_write(repo.namespace)
    if call.query("create_pr"):
        number = 1 + sum(branch.startswith("refs/pr/") for branch in repo.branches)
        head, revision = repo.commit_at(revision), f"refs/pr/{number}"
    elif revision in repo.branches:
        head = repo.commit_at(revision)
    else:
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    lines = [json.loads(line) for line in call.request.data.splitlines()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if header.get("parentCommit") and not head.oid.startswith(header["parentCommit"]):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    files = dict(head.files)
    for line in lines:
        apply(line["key"], line["value"], files, call.hub.lfs)
    title = header.get("summary", "")
    new = Commit("", head.oid, files, title, header.get("description", ""), account.name)
    oid = repo.append(revision, new).oid
    url = f"{call.hub.url}/{repo.name}"
    pull_request = {"pullRequestUrl": f"{url}/discussions/{revision[8:]}"} if call.query("create_pr") else {}
    return Answer({"success": True, "commitOid": oid, "commitUrl": f"{url}/commit/{oid}", **pull_request})


def apply(key: str, value: dict[str, Any], files: dict[str, Blob], lfs: dict[str, bytes]) -> None:
    """Do one line of a commit to `files`, in place.

    Raises:
        HubError: 404 EntryNotFound for a deletion, 400 for an object that was not uploaded or an unknown line.
    """
    path = value.get("path", "")
    if key == "file":
        files[path] = Blob(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        if value["oid"] not in lfs:
            raise HubError(400, f"LFS pointer pointed to a file that does not exist: {path}")
        files[path] = Blob(lfs[value["oid"]], lfs=True)
    elif key in ("deletedFile", "deletedFolder"):
        gone = [each for each in files if each == path or (key == "deletedFolder" and _below(each, path))]
        if not gone:
            raise HubError(404, f"Entry not found: {path}", "EntryNotFound")
        for each in gone:
            del files[each]
    elif key != "header":
        raise HubError(400, f"unknown line in a commit: {key}")


def _below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/") or folder in ("", "/")
