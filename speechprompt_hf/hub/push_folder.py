"""Publishing a folder whatever it holds: a base, or a part of one; and what can be checked before it is made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from ..core.conversion import CONVERSION_FILE
from ..core.embedded import EMBEDDED_BASES
from ..core.errors import ConfigurationError
from ..modeling.bases import base_types
from ..modeling.configuration_speechprompt import SpeechPromptConfig
from ..modeling.stock_unit_lm import is_stock_unit_lm
from ..modeling.unit_causal_lm_families import FAMILIES
from ..modeling.untrusted import read_config_file
from .destination import Destination, Published
from .push import push_base
from .push_converted import push_converted

__all__ = ["check_push", "push_folder"]


def push_folder(folder: str | os.PathLike[str], repo_id: str, **options: Any) -> Published:
    """Publish a base with `push_base`, and anything else that `speechprompt convert` wrote with `push_converted`.

    A base that was converted, alone or with its processor, says in its card where it came from.

    Args:
        folder (`str | PathLike`): a base, encoder, quantizer, processor or vocoder, or the name of an embedded base.
        repo_id (`str`): `organisation/name`.
        options: `private`, `token`, `message`, `branch`, `create_pr`, `endpoint`, as in [`push_base`].

    Returns:
        `Published`.

    Raises:
        ConfigurationError: the folder holds nothing of this, or an adapter.
        HubError: the repository holds something else, the Hub refused or could not be reached.
    """
    source = Path(folder)
    if os.fspath(folder) in EMBEDDED_BASES or not source.is_dir():
        return push_base(folder, repo_id, **options)
    path = source / "config.json"
    values = read_config_file(path) if path.is_file() else {}
    model_type = values.get("model_type")
    if model_type == SpeechPromptConfig.model_type:
        raise ConfigurationError(f"{folder} holds an adapter", hint=f"speechprompt push {folder} {repo_id}")
    if is_stock_unit_lm(values) or model_type in FAMILIES:
        return push_base(folder, repo_id, **options)
    if model_type in base_types() and not (source / CONVERSION_FILE).is_file():
        return push_base(folder, repo_id, **options)
    return push_converted(folder, repo_id, **options)


def check_push(repo_id: str, model_type: str, *, token: str | None = None, endpoint: str | None = None) -> None:
    """Find out whether something can be published, before the work of making it.

    Args:
        repo_id (`str`): `organisation/name`; need not be there.
        model_type (`str`): of what will be published; `"quantizer"` or `"processor"` for what has none.
        token (`str`, *optional*): instead of the one of `hf auth login`.
        endpoint (`str`, *optional*): another Hub.

    Raises:
        ConfigurationError: no such id is possible.
        HubError: the Hub cannot be reached, nobody is logged in, the token may not write there, or the repository
            holds a model of another type.
    """
    api = HfApi(endpoint=endpoint, token=token)
    Destination.find(api, repo_id, branch=None, model_type=model_type).check_login()
