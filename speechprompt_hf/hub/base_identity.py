"""Which base on the Hub an adapter names, and whether it is the one that the adapter was trained on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError

from ..core.embedded import EMBEDDED_BASES
from ..core.errors import FingerprintMismatchError, HubError
from ..core.files import read_json
from ..core.locations import is_hub_id
from ..modeling.base_loading import base_mismatch, check_base, load_base
from ..modeling.bases import base_class
from ..modeling.configuration_speechprompt import SpeechPromptConfig
from ..modeling.untrusted import read_config_file
from .client import head_of, talking_to_the_hub
from .staging import BASE_FINGERPRINT_FILE

__all__ = ["BASE_RECORD_FILE", "PublishedBase", "check_same_base", "published_base"]

BASE_RECORD_FILE = "hub.json"
"""Where a base's folder remembers its repository."""


@dataclass(frozen=True)
class PublishedBase:
    """A base on the Hub, as adapters name it.

    Attributes:
        repo_id (`str`): the repository.
        commit (`str`): its commit.
    """

    repo_id: str
    commit: str


def published_base(api: HfApi, config: SpeechPromptConfig, base: str | None, revision: str | None) -> PublishedBase:
    """Where the adapter's base lies on the Hub."""
    named = base or config.base_model_name_or_path
    if base is None and named is not None and os.path.isdir(named):
        record = Path(named) / BASE_RECORD_FILE
        if not record.is_file():
            raise HubError(
                f"the base in {named} is not on the Hub, so nobody else could open the adapter",
                hint=f"first: speechprompt push-base {named} organisation/name",
            )
        values = read_json(record)
        return PublishedBase(values["repo_id"], values["commit"])
    if not is_hub_id(named):
        raise HubError(
            f"the adapter's base is named {named!r}, which is no repository",
            hint="publish it with speechprompt push-base, then name it with --base",
        )
    assert named is not None
    if base is None and named == config.base_model_name_or_path:
        revision = revision or config.base_revision
    try:
        return PublishedBase(named, head_of(api, named, revision))
    except HubError as error:
        if named not in EMBEDDED_BASES:
            raise
        raise HubError(
            f"the base inside this package, {named}, was not found on the Hub: {Exception.__str__(error)}",
            hint=f"publish it with speechprompt push-base {named} organisation/name, then push the adapter with "
            "--base organisation/name",
        ) from error


def check_same_base(api: HfApi, base: PublishedBase, config: SpeechPromptConfig) -> None:
    """Refuse to name what is no base, or a base of other weights or units."""
    _check_is_base(api, base)
    recorded = config.base_fingerprint
    if not recorded:
        return
    try:
        with talking_to_the_hub(base.repo_id, "read"):
            published: dict[str, Any] = read_json(_download(api, base, BASE_FINGERPRINT_FILE))
    except HubError as error:
        if not isinstance(error.__cause__, EntryNotFoundError):
            raise
        # A base that was not pushed with push-base: its weights have to be read.
        check_base(_base_at(api, base), recorded, base.repo_id)
        return
    if published.get("weights") != recorded["weights"]:
        if published.get("dtype") != recorded.get("dtype"):
            # The adapter was trained on a rounded base: its weights have to be rounded likewise.
            check_base(_base_at(api, base), recorded, base.repo_id)
            return
        raise base_mismatch(published, recorded, base.repo_id)
    units = (config.unit_fingerprint or {}).get("digest")
    if units and published.get("units") and units != published["units"]:
        raise FingerprintMismatchError(
            f"the base {base.repo_id} makes units {published['units'][:16]}, the adapter was trained on {units[:16]}",
            hint="name the base that the adapter was trained on with --base, at its revision",
        )


def _check_is_base(api: HfApi, base: PublishedBase) -> None:
    """Refuse a repository whose configuration is not that of a base."""
    hint = "name the backbone's repository with --base"
    try:
        with talking_to_the_hub(base.repo_id, "read"):
            values = read_config_file(_download(api, base, "config.json"))
    except HubError as error:
        if not isinstance(error.__cause__, EntryNotFoundError):
            raise
        raise HubError(f"{base.repo_id} has no config.json, so it is no base", hint=hint) from error
    model_type = values.get("model_type")
    if model_type == SpeechPromptConfig.model_type:
        named = values.get("base_model_name_or_path")
        raise HubError(
            f"{base.repo_id} is an adapter (model_type {model_type!r}), no base",
            hint=f"{hint}; this adapter's is {named!s:.96}" if named else hint,
        )
    if base_class(model_type) is None:
        raise HubError(f"{base.repo_id} holds a model of type {str(model_type)[:60]!r}, which is no base", hint=hint)


def _download(api: HfApi, base: PublishedBase, file_name: str) -> str:
    return hf_hub_download(base.repo_id, file_name, revision=base.commit, token=api.token, endpoint=api.endpoint)


def _base_at(api: HfApi, base: PublishedBase) -> Any:
    """The base of a repository, read."""
    with talking_to_the_hub(base.repo_id, "read"):
        folder = snapshot_download(
            base.repo_id,
            revision=base.commit,
            allow_patterns=["config.json", "*.safetensors*"],
            token=api.token,
            endpoint=api.endpoint,
        )
    return load_base(folder)
