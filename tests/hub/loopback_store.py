"""What the loopback Hub keeps: blobs, commits, repositories, accounts, and the requests it was asked."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

GITATTRIBUTES = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.parquet filter=lfs diff=lfs merge=lfs -text\n"
LFS_SUFFIXES = (".safetensors", ".parquet", ".bin", ".arrow", ".onnx", ".pt")
LFS_SIZE_BYTES = 1_000_000


class HubError(Exception):
    """A refusal: HTTP status, the Hub's error code (the client tells the 404s apart by it) and message."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Blob:
    """The content of one file; `lfs` says how it is stored, and with it what its ETag is."""

    data: bytes
    lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        spec = "https://git-lfs.github.com/spec/v1"
        return f"version {spec}\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @cached_property
    def oid(self) -> str:
        """Git's hash of what stands in the repository: the content, or the pointer to it."""
        stored = self.pointer if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


def is_lfs(path: str, size: int) -> bool:
    """Whether the Hub would store a file of this path and size in LFS; empty files never."""
    return size > 0 and (path.endswith(LFS_SUFFIXES) or size > LFS_SIZE_BYTES)


@dataclass(frozen=True)
class Commit:
    """One state of a repository."""

    oid: str
    parent: str | None
    files: Mapping[str, Blob]
    title: str
    message: str = ""
    author: str = "me"
    date: str = ""


@dataclass(frozen=True)
class Account:
    """Whom a token stands for: may write in `namespaces` (all of them if None) and see what is private there."""

    name: str
    namespaces: frozenset[str] | None = None

    def owns(self, repo: "Repo") -> bool:
        return self.namespaces is None or repo.namespace in self.namespaces


@dataclass
class Repo:
    """One repository: commits by hash, and where branches and tags point. Pull requests are branches `refs/pr/N`."""

    name: str
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return re.sub(r"^(datasets|spaces)/", "", self.name)

    @property
    def namespace(self) -> str:
        return self.id.split("/")[0]

    def commit_at(self, revision: str) -> Commit:
        """The commit of a branch, tag, or hash (at least 7 characters of it).

        Raises:
            HubError: 404 RevisionNotFound.
        """
        oid = self.branches.get(revision) or self.tags.get(revision)
        if oid is None and re.fullmatch(r"[0-9a-f]{7,40}", revision):
            oid = next((each for each in self.commits if each.startswith(revision)), None)
        if oid is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def history(self, revision: str) -> list[Commit]:
        """The commits of a revision, newest first."""
        found: list[Commit] = [self.commit_at(revision)]
        while (parent := found[-1].parent) is not None:
            found.append(self.commits[parent])
        return found

    def append(self, branch: str, commit: Commit) -> Commit:
        """Put a commit (without hash and date) at the end of a branch."""
        date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        tree = [(path, blob.oid) for path, blob in sorted(commit.files.items())]
        seed = json.dumps([self.name, commit.parent, commit.title, tree, len(self.commits)])
        commit = replace(commit, oid=hashlib.sha1(seed.encode()).hexdigest(), date=date)
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit


@dataclass
class Request:
    """One request as it was answered; `status` 0: no answer was sent."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    data: bytes = field(default=b"", repr=False)
    raw_path: str = ""
    status: int = 0
    fault: str | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"

    def header(self, name: str) -> str | None:
        """A header, however its name is capitalised."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)
