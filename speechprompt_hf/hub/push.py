"""Publishing: a base, and adapters that name it by its id and commit."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError

from ..core.embedded import EMBEDDED_BASES, resolve_base
from ..core.errors import ConfigurationError, FingerprintMismatchError, HubError
from ..core.files import read_json, write_json
from ..modeling.base_loading import base_fingerprint, check_base, load_base
from ..modeling.configuration_speechprompt import SpeechPromptConfig
from .card import write_base_card, write_model_card
from .client import Published, head_of, publish_folder, talking_to_the_hub
from .remote_code import add_remote_code, refer_to_remote_code
from .staging import (
    BASE_FINGERPRINT_FILE,
    adapter_values,
    is_adapter_file,
    is_base_file,
    is_hub_id,
    is_training_file,
    stage_adapter,
    stage_base,
)

__all__ = ["push_adapter", "push_base", "save_for_the_hub"]

_RECORD = "hub.json"
"""Where a base's folder remembers its repository."""


@dataclass(frozen=True)
class _Base:
    """A base on the Hub."""

    repo_id: str
    commit: str


def push_base(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    message: str | None = None,
    branch: str | None = None,
    create_pr: bool = False,
    endpoint: str | None = None,
) -> Published:
    """Publish a backbone: language model, encoder, quantizer, processor, the code that opens them, and a card.

    Args:
        folder (`str | PathLike`): what `speechprompt pretrain` wrote, or the name of an embedded base.
        repo_id (`str`): `organisation/name`.
        private (`bool`, *optional*): for a new repository.
        token (`str`, *optional*): instead of the one of `hf auth login`.
        message (`str`, *optional*): of the commit.
        branch (`str`, *optional*): `main` by default.
        create_pr (`bool`, defaults to `False`): open a pull request instead of committing.
        endpoint (`str`, *optional*): another Hub.

    Returns:
        `Published`: one commit. The folder remembers it, so that adapters trained on the folder can be pushed.

    Raises:
        ConfigurationError: the folder holds no whole base, or no such id is possible.
        HubError: the Hub refused or could not be reached; the repository is as it was.
    """
    _check_id(repo_id)
    source = Path(resolve_base(os.fspath(folder)))
    if not source.is_dir():
        raise ConfigurationError(f"there is no folder {folder}", hint="give what speechprompt pretrain wrote")
    api = HfApi(endpoint=endpoint, token=token)
    with tempfile.TemporaryDirectory() as temporary:
        stage = Path(temporary)
        stage_base(source, stage)
        lm = load_base(str(stage))
        units = (lm.config.fingerprint or {}).get("digest")
        write_json(stage / BASE_FINGERPRINT_FILE, {**base_fingerprint(lm), "units": units})
        add_remote_code(stage)
        _take_over_card(api, repo_id, branch, stage)
        write_base_card(stage, repo_id=repo_id)
        done = publish_folder(
            api,
            repo_id,
            stage,
            message=message or "Upload a speech prompt backbone",
            branch=branch,
            private=private,
            create_pr=create_pr,
            replaces=lambda path: is_base_file(path) or path.endswith(".py"),
        )
    if not create_pr and os.fspath(folder) not in EMBEDDED_BASES:
        write_json(source / _RECORD, {"repo_id": done.repo_id, "commit": done.commit})
    return done


def push_adapter(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    base: str | None = None,
    base_revision: str | None = None,
    license: str | None = None,
    dataset: str | None = None,
    language: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    message: str | None = None,
    branch: str | None = None,
    create_pr: bool = False,
    endpoint: str | None = None,
) -> Published:
    """Publish an adapter as one commit: configuration, PEFT adapter, verbalizer, processor files and a card.

    Neither the base nor encoder and centroids are uploaded: the adapter names them by the base's id and commit.

    Args:
        folder (`str | PathLike`): what `speechprompt train` wrote.
        repo_id (`str`): `organisation/name`.
        base (`str`, *optional*): the base on the Hub, where the adapter names a folder or the embedded base.
        base_revision (`str`, *optional*): branch, tag or commit of the base; its commit is written.
        license (`str`, *optional*): for the card.
        dataset (`str`, *optional*): Hub id of the data, for the card.
        language (`str`, *optional*): for the card.
        private (`bool`, *optional*): for a new repository.
        token (`str`, *optional*): instead of the one of `hf auth login`.
        message (`str`, *optional*): of the commit.
        branch (`str`, *optional*): `main` by default.
        create_pr (`bool`, defaults to `False`): open a pull request instead of committing.
        endpoint (`str`, *optional*): another Hub.

    Returns:
        `Published`.

    Raises:
        AdapterError: the folder holds no whole adapter.
        HubError: the base is not on the Hub, or the Hub refused; the repository is as it was.
        FingerprintMismatchError: the base on the Hub has other weights or units than the adapter was trained on.
    """
    _check_id(repo_id)
    api = HfApi(endpoint=endpoint, token=token)
    with tempfile.TemporaryDirectory() as temporary:
        stage = Path(temporary)
        save_for_the_hub(Path(folder), stage, api=api, base=base, base_revision=base_revision)
        _take_over_card(api, repo_id, branch, stage)
        report = Path(folder) / "report.json"
        values = read_json(stage / "config.json")
        write_model_card(
            stage,
            repo_id=repo_id,
            base_id=values["base_model_name_or_path"],
            base_revision=values["base_revision"],
            license=license,
            dataset=dataset,
            language=language,
            report=read_json(report) if report.is_file() else None,
        )
        return publish_folder(
            api,
            repo_id,
            stage,
            message=message or "Upload a speech prompt adapter",
            branch=branch,
            private=private,
            create_pr=create_pr,
            replaces=lambda path: is_adapter_file(path) or is_training_file(path),
        )


def save_for_the_hub(
    folder: Path, target: Path, *, api: HfApi, base: str | None = None, base_revision: str | None = None
) -> None:
    """Write what an adapter's repository holds into an empty folder; nothing is uploaded.

    Args:
        folder (`Path`): the adapter.
        target (`Path`): where to write.
        api (`HfApi`): for the base's commit and fingerprint.
        base (`str`, *optional*): as in [`push_adapter`].
        base_revision (`str`, *optional*): as in [`push_adapter`].

    Raises:
        AdapterError: the folder holds no whole adapter.
        HubError: the base is not on the Hub, or it cannot be reached.
        FingerprintMismatchError: the base on the Hub has other weights or units than the adapter was trained on.
    """
    config = SpeechPromptConfig.from_dict(adapter_values(folder))
    found = _base_of(api, config, base, base_revision)
    _check_same_base(api, found, config)
    stage_adapter(folder, target, base_id=found.repo_id, base_commit=found.commit)
    refer_to_remote_code(target, found.repo_id)


def _check_id(repo_id: str) -> None:
    if not is_hub_id(repo_id):
        raise ConfigurationError(f"{repo_id!r} is no repository id", hint="give organisation/name")


def _base_of(api: HfApi, config: SpeechPromptConfig, base: str | None, revision: str | None) -> _Base:
    """Where the adapter's base lies on the Hub."""
    named = base or config.base_model_name_or_path
    if base is None and named is not None and os.path.isdir(named):
        record = Path(named) / _RECORD
        if not record.is_file():
            raise HubError(
                f"the base in {named} is not on the Hub, so nobody else could open the adapter",
                hint=f"first: speechprompt push-base {named} organisation/name",
            )
        values = read_json(record)
        return _Base(values["repo_id"], values["commit"])
    if not is_hub_id(named):
        raise HubError(
            f"the adapter's base is named {named!r}, which is no repository",
            hint="publish it with speechprompt push-base, then name it with --base",
        )
    assert named is not None
    if base is None and named == config.base_model_name_or_path:
        revision = revision or config.base_revision
    try:
        return _Base(named, head_of(api, named, revision))
    except HubError as error:
        if named not in EMBEDDED_BASES:
            raise
        raise HubError(
            f"the base inside this package, {named}, was not found on the Hub: {Exception.__str__(error)}",
            hint=f"publish it with speechprompt push-base {named} organisation/name, then push the adapter with "
            "--base organisation/name",
        ) from error


def _check_same_base(api: HfApi, base: _Base, config: SpeechPromptConfig) -> None:
    """Refuse to name a base of other weights or units."""
    recorded = config.base_fingerprint
    if not recorded:
        return
    try:
        with talking_to_the_hub(base.repo_id, "read"):
            published: dict[str, Any] = read_json(
                hf_hub_download(
                    base.repo_id,
                    BASE_FINGERPRINT_FILE,
                    revision=base.commit,
                    token=api.token,
                    endpoint=api.endpoint,
                )
            )
    except HubError as error:
        if not isinstance(error.__cause__, EntryNotFoundError):
            raise
        # A base that was not pushed with push-base: its weights have to be read.
        with talking_to_the_hub(base.repo_id, "read"):
            folder = snapshot_download(
                base.repo_id,
                revision=base.commit,
                allow_patterns=["config.json", "*.safetensors*"],
                token=api.token,
                endpoint=api.endpoint,
            )
        check_base(load_base(folder), recorded, base.repo_id)
        return
    if published.get("weights") != recorded["weights"] and published.get("dtype") == recorded.get("dtype"):
        raise FingerprintMismatchError(
            f"the base {base.repo_id} has weights {str(published.get('weights'))[:16]}, the adapter was trained on "
            f"{recorded['weights'][:16]}",
            hint="name the base that the adapter was trained on with --base, at its revision",
        )
    units = (config.unit_fingerprint or {}).get("digest")
    if units and published.get("units") and units != published["units"]:
        raise FingerprintMismatchError(
            f"the base {base.repo_id} makes units {published['units'][:16]}, the adapter was trained on {units[:16]}",
            hint="name the base that the adapter was trained on with --base, at its revision",
        )


def _take_over_card(api: HfApi, repo_id: str, branch: str | None, stage: Path) -> None:
    """Start from the card that is in the repository: somebody may have edited it there."""
    try:
        with talking_to_the_hub(repo_id, "read"):
            path = hf_hub_download(repo_id, "README.md", revision=branch, token=api.token, endpoint=api.endpoint)
    except HubError as error:
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        if not isinstance(error.__cause__, EntryNotFoundError | RepositoryNotFoundError | RevisionNotFoundError):
            raise
        return
    (stage / "README.md").write_bytes(Path(path).read_bytes())
