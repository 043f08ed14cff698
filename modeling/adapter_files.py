"""The files of an adapter folder: a stock PEFT adapter, the verbalizer, and optionally what training goes on from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from peft import PeftConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Module
from transformers.utils import cached_file
from transformers.utils.hub import extract_commit_hash

from ..core.digest import sha256_of_file
from ..core.errors import AdapterError
from ..core.files import atomic_path
from ..core.locations import check_is_there, reading
from .adapter_tensors import fill_prompt, prompt_shapes, prompt_tensors
from .configuration_speechprompt import SpeechPromptConfig
from .prompt_base import PromptModule
from .unit_language_model import UnitLanguageModel
from .untrusted import check_finite, check_header, read_config_file
from .verbalizer_kinds import verbalizer_class

__all__ = [
    "ADAPTER_WEIGHTS",
    "GENERATION",
    "HUB_KEYS",
    "OUTPUT_TOKENIZER",
    "TRAINING_STATE",
    "VERBALIZER",
    "VOCABULARY",
    "check_adapter",
    "file_digests",
    "find_file",
    "load_prompt",
    "load_training_state",
    "pinned",
    "read_peft_config",
    "read_tensors",
    "save_prompt",
    "save_tensors",
    "training_state",
    "untrained_names",
]

ADAPTER_IDENTITY = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
VERBALIZER = "verbalizer.safetensors"
VOCABULARY = "dict.txt"
"""Which token each unit is; tokenizers read it, too."""

OUTPUT_TOKENIZER = "output_tokenizer.json"
"""Of the `tokenizers` library. Not `tokenizer.json`, which transformers would take for the tokenizer of units."""

GENERATION = "generation_config.json"
"""How sequences are searched for, where that was set."""

TRAINING_STATE = "model.safetensors"
"""What training goes on from, in checkpoints only, under the name that `transformers.Trainer` looks for."""

HUB_KEYS = ("revision", "token", "cache_dir", "force_download", "local_files_only", "subfolder")
"""Keywords that say where and how files are found."""


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, whole or not at all."""
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def find_file(name: str | os.PathLike[str], file_name: str, *, what: str = "the adapter", **hub: Any) -> str | None:
    """Path of a file in a folder or a Hub repository, or `None` where it has no such file.

    Args:
        name (`str | PathLike`): folder or Hub id.
        file_name (`str`): of the file.
        what (`str`, defaults to `"the adapter"`): what the name stands for, for the message.
        hub: where and how files are found.

    Raises:
        AdapterError: there is no such folder or repository, or it cannot be reached.
    """
    with reading(name, AdapterError, what):
        return cached_file(
            os.fspath(name),
            file_name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_gated_repo=True,
            **hub,
        )


def pinned(name: str | os.PathLike[str], hub: dict[str, Any]) -> dict[str, Any]:
    """Where files are found, with the commit that the revision stands for now.

    All files of an adapter are then of one commit, also if somebody pushes while they are read.

    Args:
        name (`str | PathLike`): folder or Hub id.
        hub (`dict`): where and how files are found.

    Returns:
        `dict`: the same with the commit as `revision`; unchanged for a folder.

    Raises:
        AdapterError: there is no such folder or repository, or it cannot be reached.
    """
    if os.path.exists(name):
        return hub
    check_is_there(name, AdapterError, "the adapter", ADAPTER_IDENTITY, **hub)
    commit = extract_commit_hash(find_file(name, ADAPTER_IDENTITY, **hub), None)
    return hub if commit is None else {**hub, "revision": commit}


def read_tensors(name: str | os.PathLike[str], file_name: str, **hub: Any) -> dict[str, Tensor]:
    """Tensors of a file that must be there.

    Raises:
        AdapterError: the file is missing, or no safetensors file.
    """
    path = find_file(name, file_name, **hub)
    if path is None:
        raise _missing(name, file_name)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path} cannot be read: {error}", hint="it is damaged: copy or save it again") from error
    check_finite(tensors, file_name, os.fspath(name))
    return tensors


def check_adapter(name: str | os.PathLike[str], config: SpeechPromptConfig, lm: UnitLanguageModel, **hub: Any) -> None:
    """Compare an adapter's files, by their headers, with its configuration and its base, before any is read.

    Args:
        name (`str | PathLike`): folder or Hub id.
        config (`SpeechPromptConfig`): the adapter's.
        lm (`UnitLanguageModel`): the base.
        hub: where and how files are found.

    Raises:
        AdapterError: sizes differ, or a file is missing.
    """
    for key in ("vocab_size", "hidden_size"):
        if getattr(config, key) != getattr(lm.config, key):
            raise AdapterError(
                f"{key} in config.json of {name} is {getattr(config, key)}, the base has {getattr(lm.config, key)}",
                hint="the adapter belongs to a base of another size",
            )
    expected = {VERBALIZER: verbalizer_class(config).shapes(config)}
    if config.method == "prompt":
        expected[ADAPTER_WEIGHTS] = prompt_shapes(config, lm)
    for file_name, shapes in expected.items():
        path = _present(name, file_name, hub)
        check_header(path, shapes, os.fspath(name))
        _check_digest(path, config, file_name, name)
    if config.generates_sequences:
        path = _present(name, OUTPUT_TOKENIZER, hub)
        read_config_file(path)
        _check_digest(path, config, OUTPUT_TOKENIZER, name)


def _check_digest(path: str, config: SpeechPromptConfig, file_name: str, name: str | os.PathLike[str]) -> None:
    recorded = (config.file_sha256 or {}).get(file_name) or None
    found = sha256_of_file(path) if recorded else None
    if found != recorded:
        raise AdapterError(
            f"{path} is not the file that {name} was saved with: its SHA-256 is {str(found)[:16]} instead of "
            f"{str(recorded)[:16]}",
            hint="it was damaged on the way, or comes from another run: download it again with "
            "force_download=True, or save the adapter again",
        )


def file_digests(folder: Path, config: SpeechPromptConfig) -> dict[str, str]:
    """SHA-256 of what an adapter's answers are made from, by file name, as its configuration records them.

    Args:
        folder (`Path`): of the adapter.
        config (`SpeechPromptConfig`): of the adapter; its method says which files there are.
    """
    names = [ADAPTER_WEIGHTS, VERBALIZER] if config.method == "prompt" else [VERBALIZER]
    names += [OUTPUT_TOKENIZER] if config.generates_sequences else []
    return {name: sha256_of_file(folder / name) for name in names}


def _present(name: str | os.PathLike[str], file_name: str, hub: dict[str, Any]) -> str:
    path = find_file(name, file_name, **hub)
    if path is None:
        raise _missing(name, file_name)
    return path


def _missing(name: str | os.PathLike[str], file_name: str) -> AdapterError:
    return AdapterError(
        f"{name} has no {file_name}",
        hint="the adapter was not saved completely; save it again with save_pretrained",
    )


def read_peft_config(name: str | os.PathLike[str], **hub: Any) -> PeftConfig | None:
    """The PEFT configuration of an adapter, or `None` where there is none.

    Raises:
        AdapterError: the file is damaged, or of a method that is no prompt.
    """
    path = find_file(name, ADAPTER_CONFIG, **hub)
    if path is None:
        return None
    kind = read_config_file(path).get("peft_type")
    if kind not in ("PREFIX_TUNING", "PROMPT_TUNING"):
        raise AdapterError(
            f"the PEFT adapter in {name} is of type {kind!r}, not a prompt",
            hint="open it with peft.PeftModel.from_pretrained",
        )
    options = {key: value for key, value in hub.items() if value is not None}
    with reading(name, AdapterError, "the adapter"):
        return PeftConfig.from_pretrained(os.fspath(name), **options)


def save_prompt(
    folder: Path, prompt: PromptModule, lm: UnitLanguageModel, *, base: str | None, revision: str | None
) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` as PEFT itself would.

    Args:
        folder (`Path`): where to write.
        prompt (`PromptModule`): the prompt.
        lm (`UnitLanguageModel`): the base that it belongs to.
        base (`str`, *optional*): how the adapter names the base.
        revision (`str`, *optional*): the base's revision.
    """
    prompt.peft_config(lm, base_model_name_or_path=base, revision=revision).save_pretrained(str(folder))
    save_tensors(folder / ADAPTER_WEIGHTS, prompt_tensors(prompt, lm))


def load_prompt(name: str | os.PathLike[str], prompt: PromptModule, lm: UnitLanguageModel, **hub: Any) -> None:
    """Fill a prompt from an adapter's PEFT table.

    Raises:
        AdapterError: a file is missing, or holds other tensors than the prompt has; nothing is dropped silently.
    """
    fill_prompt(prompt, lm, read_tensors(name, ADAPTER_WEIGHTS, **hub), f"{ADAPTER_WEIGHTS} of {name}")


def training_state(model: Module) -> dict[str, Tensor]:
    """What training changes, prompt and verbalizer whole, under the names of the model's state dictionary.

    The prompt's vectors stand here as they are trained; the PEFT table holds what the projections make of them, from
    which they cannot be had back.
    """
    return {name: tensor.detach().cpu().contiguous() for name, tensor in _training_tensors(model).items()}


def untrained_names(model: Module) -> set[str]:
    """Names in the model's state dictionary that `training_state` leaves out."""
    return model.state_dict().keys() - _training_tensors(model).keys()


def _training_tensors(model: Module) -> dict[str, Tensor]:
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name in trained or name.startswith(("prompt.", "verbalizer."))
    }


def load_training_state(name: str | os.PathLike[str], model: Module, **hub: Any) -> bool:
    """Take over what `training_state` returned, if the folder is a checkpoint that holds it.

    Returns:
        `bool`: whether it does.

    Raises:
        AdapterError: it holds other tensors than the model trains.
    """
    # Only a folder of this machine: what lies in a shared repository is opened from its PEFT table.
    if not os.path.isdir(name):
        return False
    path = find_file(name, TRAINING_STATE, **hub)
    if path is None:
        return False
    tensors, own = read_tensors(name, TRAINING_STATE, **hub), _training_tensors(model)
    shapes = [{key: tuple(tensor.shape) for key, tensor in state.items()} for state in (tensors, own)]
    if shapes[0] != shapes[1]:
        raise AdapterError(
            f"{TRAINING_STATE} of {name} holds {sorted(tensors)}; this model trains {sorted(own)}, or other shapes",
            hint="resume with the options of the first run",
        )
    model.load_state_dict(tensors, strict=False)
    return True
