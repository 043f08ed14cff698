"""The reading half of the Hub's HTTP API: information, trees, history, branches and tags, file contents."""

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from tests.hub.loopback_routes import PAGE, PLACE, REPO, Answer, Call, card_data, route
from tests.hub.loopback_store import Blob, Commit, HubError, Repo


@route("GET", REPO + "(?:/revision/([^/]+))?")
def info(call: Call, kind: str, name: str, revision: str) -> Answer:
    repo = call.readable(kind, name)
    commit = repo.commit_at(revision or "main")
    readme = commit.files.get("README.md", Blob(b"")).data.decode(errors="replace")
    card = card_data(readme)
    library = card.get("library_name") or _library(commit)
    tags = [*card.get("tags", []), *([library] if library else [])]
    pipeline_tag = card.get("pipeline_tag")
    told = {"library_name": library, "pipeline_tag": pipeline_tag, "cardData": card or None}
    common = {"_id": commit.oid[:24], "id": repo.id, "modelId": repo.id, "author": repo.namespace, "sha": commit.oid}
    state = {"private": repo.private, "gated": "manual" if repo.gated else False, "disabled": False}
    times = {"lastModified": commit.date, "createdAt": repo.history("main")[-1].date, "downloads": 0, "likes": 0}
    siblings = [_sibling(path, blob, call.query("blobs") is not None) for path, blob in sorted(commit.files.items())]
    return Answer({**common, **state, **times, "tags": tags, "siblings": siblings, **_present(told)})


def _library(commit: Commit) -> str | None:
    names = {"adapter_config.json": "peft", "config.json": "transformers"}
    return next((library for path, library in names.items() if path in commit.files), None)


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _sibling(path: str, blob: Blob, blobs: bool) -> dict[str, Any]:
    told = {"rfilename": path}
    return {**told, "size": len(blob.data), "blobId": blob.oid, **_lfs(blob, "sha256")} if blobs else told


def _lfs(blob: Blob, key: str) -> dict[str, Any]:
    if not blob.lfs:
        return {}
    return {"lfs": {key: blob.sha256, "size": len(blob.data), "pointerSize": len(blob.pointer)}}


# --- trees


@route("GET", REPO + "/tree/([^/]+)(?:/(.+))?")
def tree(call: Call, kind: str, name: str, revision: str, folder: str) -> Answer:
    repo = call.readable(kind, name, contents=True)
    commit = repo.commit_at(revision)
    folder = folder.strip("/")
    recursive = _wants(call.query("recursive"))
    entries = _entries(commit, folder, recursive)
    if folder and not entries:
        raise HubError(404, f"{folder} does not exist on {revision}", "EntryNotFound")
    start = int(call.query("cursor") or 0)
    headers = {}
    if start + PAGE < len(entries):
        kept = "&".join(part for part in call.request.query.split("&") if part and not part.startswith("cursor="))
        url = f"{call.hub.url}{call.request.raw_path}?{kept}&cursor={start + PAGE}"
        headers["Link"] = f'<{url}>; rel="next"'
    page = entries[start : start + PAGE]
    return Answer(_expanded(page, repo, commit) if _wants(call.query("expand")) else page, headers=headers)


def _wants(value: str | None) -> bool:
    return value in ("true", "True", "1")


def _entries(commit: Commit, folder: str, recursive: bool) -> list[dict[str, Any]]:
    prefix = f"{folder}/" if folder else ""
    found: dict[str, dict[str, Any]] = {}
    for path, blob in sorted(commit.files.items()):
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            above = prefix + "/".join(parts[:depth])
            found.setdefault(above, _folder(above))
        if recursive or len(parts) == 1:
            found[path] = _file(path, blob)
    return list(found.values())


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "size": 0, "oid": Blob(path.encode()).oid}


def _file(path: str, blob: Blob) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(blob.data), "oid": blob.oid, **_lfs(blob, "oid")}


def _expanded(entries: Iterable[dict[str, Any]], repo: Repo, commit: Commit) -> list[dict[str, Any]]:
    return [{**entry, "lastCommit": _last_commit(repo, commit, entry["path"])} for entry in entries]


def _last_commit(repo: Repo, commit: Commit, path: str) -> dict[str, str]:
    """The newest commit in which something at or below a path became what it is."""

    def state(at: Commit) -> dict[str, str]:
        return {each: blob.oid for each, blob in at.files.items() if each == path or each.startswith(f"{path}/")}

    history = repo.history(commit.oid)
    last = next((new for new, old in pairwise(history) if state(new) != state(old)), history[-1])
    return {"id": last.oid, "title": last.title, "date": last.date}


@route("POST", REPO + "/paths-info/([^/]+)")
def paths_info(call: Call, kind: str, name: str, revision: str) -> Answer:
    repo = call.readable(kind, name, contents=True)
    commit = repo.commit_at(revision)
    want = call.form
    entries = []
    for path in (each.strip("/") for each in want.get("paths", [])):
        if path in commit.files:
            entries.append(_file(path, commit.files[path]))
        elif any(each.startswith(f"{path}/") for each in commit.files):
            entries.append(_folder(path))
    return Answer(_expanded(entries, repo, commit) if _wants(str(want.get("expand", [""])[0])) else entries)


# --- history


@route("GET", REPO + "/commits/([^/]+)")
def commits(call: Call, kind: str, name: str, revision: str) -> Answer:
    history = call.readable(kind, name).history(revision)
    return Answer([_commit(each) for each in history])


def _commit(commit: Commit) -> dict[str, Any]:
    told = {"id": commit.oid, "title": commit.title, "message": commit.message, "date": commit.date}
    return {**told, "authors": [{"user": commit.author}]}


@route("GET", REPO + "/refs")
def refs(call: Call, kind: str, name: str) -> Answer:
    repo = call.readable(kind, name)
    branches = [_ref(each, f"refs/heads/{each}", oid) for each, oid in repo.branches.items() if each[:5] != "refs/"]
    tags = [_ref(each, f"refs/tags/{each}", oid) for each, oid in repo.tags.items()]
    pull_requests = [_ref(each, each, oid) for each, oid in repo.branches.items() if each[:5] == "refs/"]
    return Answer({"branches": branches, "tags": tags, "converts": [], "pullRequests": pull_requests})


def _ref(name: str, ref: str, oid: str) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": oid}


@route("POST", REPO + "/branch/([^/]+)")
def create_branch(call: Call, kind: str, name: str, branch: str) -> Answer:
    repo = call.writable(kind, name)
    if branch in repo.branches:
        raise HubError(409, f"Reference already exists: {branch}")
    repo.branches[branch] = repo.commit_at(call.json.get("startingPoint") or "main").oid
    return Answer({})


@route("DELETE", REPO + "/branch/([^/]+)")
def delete_branch(call: Call, kind: str, name: str, branch: str) -> Answer:
    repo = call.writable(kind, name)
    if branch == "main":
        raise HubError(403, "the branch main cannot be deleted")
    if repo.branches.pop(branch, None) is None:
        raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    return Answer({})


@route("POST", REPO + "/tag/([^/]+)")
def create_tag(call: Call, kind: str, name: str, revision: str) -> Answer:
    repo, tag = call.writable(kind, name), call.json["tag"]
    commit = repo.commit_at(revision)
    if tag in repo.tags:
        raise HubError(409, f"Tag reference exists already: {tag}")
    repo.tags[tag] = commit.oid
    return Answer({})


@route("DELETE", REPO + "/tag/([^/]+)")
def delete_tag(call: Call, kind: str, name: str, tag: str) -> Answer:
    if call.writable(kind, name).tags.pop(tag, None) is None:
        raise HubError(404, f"Invalid rev id: {tag}", "RevisionNotFound")
    return Answer({})


# --- contents


@route("GET|HEAD", PLACE + "/resolve/([^/]+)/(.+)")
def resolve(call: Call, kind: str, name: str, revision: str, path: str) -> Answer:
    commit = call.readable(kind, name, contents=True).commit_at(revision)
    if path not in commit.files:
        headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": commit.oid}
        return Answer(b"Entry not found", 404, headers)
    blob = commit.files[path]
    headers = {"ETag": f'"{blob.etag}"', "X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    if blob.lfs:
        headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.data))}
    wanted = call.request.header("Range")
    return Answer(blob.data, headers=headers) if wanted is None else _part(blob.data, wanted, headers)


def _part(data: bytes, wanted: str, headers: dict[str, str]) -> Answer:
    """The bytes of a `Range: bytes=first-last` with 206, or 416."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted)
    if match is None:
        raise HubError(400, f"not understood: Range: {wanted}")
    if match[1]:
        first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
    else:
        first, last = max(0, len(data) - int(match[2])), len(data) - 1
    if first > last:
        return Answer(b"", 416, {**headers, "Content-Range": f"bytes */{len(data)}"})
    return Answer(data[first : last + 1], 206, {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"})
