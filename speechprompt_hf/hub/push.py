"""Publishing: a base, and adapters that name it by its id and commit."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from huggingface_hub import HfApi

from ..core.embedded import EMBEDDED_BASES, resolve_base
from ..core.errors import ConfigurationError
from ..core.files import read_json, write_json
from ..modeling.base_loading import base_fingerprint, load_base
from ..modeling.configuration_speechprompt import SpeechPromptConfig
from ..modeling.configuration_unit_causal_lm import UnitCausalLMConfig
from ..modeling.stock_unit_lm import is_stock_unit_lm
from ..modeling.untrusted import read_config_file
from .base_identity import BASE_RECORD_FILE, check_same_base, published_base
from .card import write_base_card, write_model_card
from .destination import Destination, Published
from .remote_code import add_remote_code, refer_to_remote_code
from .staging import (
    BASE_FINGERPRINT_FILE,
    adapter_values,
    check_folder,
    is_adapter_file,
    is_base_file,
    is_training_file,
    stage_adapter,
    stage_base,
    stage_wrapped,
    temporary_stage,
)

__all__ = ["push_adapter", "push_base", "save_for_the_hub"]


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
        folder (`str | PathLike`): what `speechprompt pretrain` wrote, or the name of an embedded base. A language
            model of TWIST or slamkit is wrapped into a base of this package first, so that every door holds.
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
        HubError: the Hub refused or could not be reached, or there is no room for a temporary copy; the repository is
            as it was.
    """
    source = Path(resolve_base(os.fspath(folder)))
    if not source.is_dir():
        raise ConfigurationError(
            f"there is no folder {folder}",
            hint="give what speechprompt pretrain wrote, or the name of a base inside this package: "
            + ", ".join(EMBEDDED_BASES),
        )
    api = HfApi(endpoint=endpoint, token=token)
    check_folder(source, ConfigurationError, "speechprompt pretrain")
    values = read_config_file(source / "config.json")
    is_stock = is_stock_unit_lm(values)
    model_type = UnitCausalLMConfig.model_type if is_stock else str(values.get("model_type"))
    target = Destination.find(api, repo_id, branch=branch, model_type=model_type)
    with temporary_stage(source) as stage:
        if is_stock:
            stage_wrapped(source, stage)
        else:
            stage_base(source, stage)
        lm = load_base(str(stage))
        units = (lm.config.fingerprint or {}).get("digest")
        write_json(stage / BASE_FINGERPRINT_FILE, {**base_fingerprint(lm), "units": units})
        add_remote_code(stage)
        target.take_over_card(stage)
        write_base_card(stage, repo_id=repo_id)
        done = target.publish(
            stage,
            message=message or "Upload a speech prompt backbone",
            private=private,
            create_pr=create_pr,
            replaces=lambda path: is_base_file(path) or target.holds_generated_code(path),
        )
    if not create_pr and os.fspath(folder) not in EMBEDDED_BASES:
        write_json(source / BASE_RECORD_FILE, {"repo_id": done.repo_id, "commit": done.commit})
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
        `Published`: one commit; its `kept` says where the card was left as somebody had edited it, also against
        `license`, `dataset` and `language`.

    Raises:
        AdapterError: the folder holds no whole adapter.
        HubError: the base is not on the Hub, or the repository named as the base holds no base; the Hub refused; or
            there is no room for a temporary copy. The repository is as it was.
        FingerprintMismatchError: the base on the Hub has other weights or units than the adapter was trained on.
    """
    api = HfApi(endpoint=endpoint, token=token)
    adapter_values(Path(folder))
    target = Destination.find(api, repo_id, branch=branch, model_type=SpeechPromptConfig.model_type)
    with temporary_stage(Path(folder)) as stage:
        save_for_the_hub(Path(folder), stage, api=api, base=base, base_revision=base_revision)
        target.take_over_card(stage)
        report = Path(folder) / "report.json"
        values = read_json(stage / "config.json")
        card = write_model_card(
            stage,
            repo_id=repo_id,
            base_id=values["base_model_name_or_path"],
            base_revision=values["base_revision"],
            license=license,
            dataset=dataset,
            language=language,
            report=read_json(report) if report.is_file() else None,
        )
        done = target.publish(
            stage,
            message=message or "Upload a speech prompt adapter",
            private=private,
            create_pr=create_pr,
            replaces=lambda path: is_adapter_file(path) or is_training_file(path),
        )
    return replace(done, kept=card.kept)


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
    found = published_base(api, config, base, base_revision)
    check_same_base(api, found, config)
    stage_adapter(folder, target, base_id=found.repo_id, base_commit=found.commit)
    refer_to_remote_code(target, found.repo_id)
