"""The repository that a push goes to: what it holds before, and one commit on top of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from ..core.errors import ConfigurationError, HubError
from ..core.files import read_json
from ..core.locations import is_hub_id
from .client import NOT_DONE, patiently, talking_to_the_hub
from .remote_code import is_generated_code

__all__ = ["Destination", "Published"]


@dataclass(frozen=True)
class Published:
    """What a push made.

    Attributes:
        repo_id (`str`): the repository.
        commit (`str`): its commit, 40 hexadecimal digits.
        url (`str`): where to look at it.
        files (`tuple[str, ...]`): paths in it that were pushed.
        num_bytes (`int`): their size.
        kept (`tuple[str, ...]`): a sentence for each part of an adapter's card that somebody had edited and that was
            therefore left as it is, also where an argument of the push says otherwise.
    """

    repo_id: str
    commit: str
    url: str
    files: tuple[str, ...]
    num_bytes: int
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Destination:
    """A repository as it was when a push began; if it has changed when the push ends, nothing is written.

    Attributes:
        api (`HfApi`): with endpoint and token.
        repo_id (`str`): `organisation/name`.
        branch (`str`, *optional*): `main` by default.
        head (`str`, *optional*): the commit that the push builds on: the branch's, for a new branch that of `main`,
            `None` for a new repository.
        repo_type (`str`, defaults to `"model"`): or `"space"`.
    """

    api: HfApi
    repo_id: str
    branch: str | None
    head: str | None
    repo_type: str = "model"

    @classmethod
    def find(cls, api: HfApi, repo_id: str, *, branch: str | None, model_type: str) -> Destination:
        """Look at the repository, and refuse one that holds something else.

        Args:
            api (`HfApi`): with endpoint and token.
            repo_id (`str`): `organisation/name`; need not be there.
            branch (`str`, *optional*): `main` by default; need not be there.
            model_type (`str`): of what will be pushed.

        Raises:
            ConfigurationError: no such id is possible.
            HubError: the repository holds a model of another type, or the Hub cannot be reached.
        """
        found = cls._at(api, repo_id, branch, "model")
        config = found.file("config.json")
        present = read_json(config).get("model_type") if config is not None else None
        if present not in (None, model_type):
            raise HubError(
                f"{repo_id} holds a model of type {present!r}, which a push would overwrite",
                hint="give the adapter, or the base, a repository of its own",
            )
        return found

    @classmethod
    def find_space(cls, api: HfApi, repo_id: str, *, branch: str | None) -> Destination:
        """Look at a Space, which need not be there.

        Args:
            api (`HfApi`): with endpoint and token.
            repo_id (`str`): `organisation/name`.
            branch (`str`, *optional*): `main` by default.

        Raises:
            ConfigurationError: no such id is possible.
            HubError: the Hub cannot be reached.
        """
        return cls._at(api, repo_id, branch, "space")

    @classmethod
    def _at(cls, api: HfApi, repo_id: str, branch: str | None, repo_type: str) -> Destination:
        if not is_hub_id(repo_id):
            raise ConfigurationError(f"{repo_id!r} is no repository id", hint="give organisation/name")
        return cls(api, repo_id, branch, _head(api, repo_id, branch, repo_type), repo_type)

    def check_login(self) -> None:
        """Make sure that somebody is logged in who may write there, as far as the Hub says it beforehand.

        Raises:
            HubError: nobody is logged in, the token only reads, or it has no right to this repository.
        """
        with talking_to_the_hub(self.repo_id, "push to"):
            account = patiently(self.api.whoami)
            if self.head is not None:
                patiently(lambda: self.api.auth_check(self.repo_id, repo_type=self.repo_type, write=True))
        token = (account.get("auth") or {}).get("accessToken") or {}
        if token.get("role") == "read":
            raise HubError(
                f"cannot push to {self.repo_id}: the token of {account.get('name')} may only read",
                hint="make a token that may write, and log in with it: hf auth login",
            )

    def file(self, path: str) -> Path | None:
        """A file of the head, downloaded; `None` where it has none."""
        if self.head is None:
            return None
        try:
            with talking_to_the_hub(self.repo_id, "read"):
                downloaded = hf_hub_download(
                    self.repo_id,
                    path,
                    repo_type=self.repo_type,
                    revision=self.head,
                    token=self.api.token,
                    endpoint=self.api.endpoint,
                )
                return Path(downloaded)
        except HubError as error:
            if isinstance(error.__cause__, EntryNotFoundError):
                return None
            raise

    def take_over_card(self, stage: Path) -> None:
        """Put the repository's card into the folder that will be pushed: somebody may have edited it there."""
        card = self.file("README.md")
        if card is not None:
            (stage / "README.md").write_bytes(card.read_bytes())

    def holds_generated_code(self, path: str) -> bool:
        """Whether a path of the head is code that this package generated, in any version."""
        file = self.file(path) if path.endswith(".py") and "/" not in path else None
        return file is not None and is_generated_code(file)

    def publish(
        self,
        folder: Path,
        *,
        message: str,
        private: bool | None = None,
        create_pr: bool = False,
        replaces: Callable[[str], bool],
    ) -> Published:
        """Upload a folder as one commit on the head; repository and branch are made if they are not there.

        Args:
            folder (`Path`): everything in it is uploaded.
            message (`str`): first line of the commit.
            private (`bool`, *optional*): for a new repository.
            create_pr (`bool`, defaults to `False`): open a pull request instead.
            replaces (`Callable`): which paths of the repository are deleted if the folder does not hold them.

        Returns:
            `Published`.

        Raises:
            HubError: nothing was changed, or the message says that it is not known.
        """
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        api, repo_id, branch = self.api, self.repo_id, self.branch
        kind: dict[str, Any] = {"repo_type": self.repo_type}
        space_sdk = "gradio" if self.repo_type == "space" else None
        with talking_to_the_hub(repo_id, "push to"):
            patiently(lambda: api.create_repo(repo_id, exist_ok=True, private=private, space_sdk=space_sdk, **kind))
            if branch not in (None, "main"):
                patiently(lambda: api.create_branch(repo_id, branch=str(branch), exist_ok=True, **kind))
            before: Any = patiently(lambda: api.repo_info(repo_id, revision=branch, **kind))
            present = [sibling.rfilename for sibling in before.siblings or []]
            parent = None if create_pr else self.head or before.sha
            uploader = _Uploader(api)
            # A gateway may answer with other statuses after the commit was made.
            done = patiently(
                lambda: uploader.upload_folder(
                    repo_id=repo_id,
                    repo_type=self.repo_type,
                    folder_path=folder,
                    commit_message=message,
                    revision=branch,
                    create_pr=create_pr,
                    parent_commit=parent,
                    delete_patterns=[path for path in present if path not in files and replaces(path)] or None,
                ),
                busy=NOT_DONE,
            )
        if uploader.found_nothing_new and not create_pr and done.oid != parent:
            raise HubError(
                f"cannot push to {repo_id}: somebody else changed it in the meantime, while it held the same files",
                hint="look at it, then push again",
                is_mistake=False,
            )
        return Published(
            repo_id=repo_id,
            commit=str(done.oid),
            url=str(done.commit_url),
            files=tuple(files),
            num_bytes=sum(file.stat().st_size for file in files.values()),
        )


class _Uploader(HfApi):
    """Knows whether there was something to commit.

    Where a repository holds the files already, the Hub's client asks for its head and reports that as the commit,
    though somebody may have pushed since the files were compared.
    """

    def __init__(self, api: HfApi) -> None:
        super().__init__(endpoint=api.endpoint, token=api.token)
        self.found_nothing_new = False

    def upload_folder(self, **options: Any) -> CommitInfo:  # type: ignore[override]
        """As the client's, noting afresh whether there was something to commit."""
        self.found_nothing_new = False
        return super().upload_folder(**options)

    def repo_info(self, *args: Any, **options: Any) -> Any:
        """As the client's; while it uploads, it asks only where there is nothing to commit."""
        self.found_nothing_new = True
        return super().repo_info(*args, **options)


def _head(api: HfApi, repo_id: str, branch: str | None, repo_type: str) -> str | None:
    """The commit of a branch that is there, else of `main`, else `None`."""
    for revision in (branch, None):
        try:
            with talking_to_the_hub(repo_id, "read"):
                found = patiently(lambda: api.repo_info(repo_id, revision=revision, repo_type=repo_type))  # noqa: B023
                return str(found.sha)
        except HubError as error:
            if not isinstance(error.__cause__, RepositoryNotFoundError | RevisionNotFoundError):
                raise
    return None
