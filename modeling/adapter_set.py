"""Several adapters on one base: loading, switching, deleting, and which of them a row has."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..core.errors import AdapterError, ConfigurationError, FingerprintMismatchError
from .adapter_batch import AdapterRows
from .adapter_files import HUB_KEYS
from .adapter_reading import read_config
from .configuration_speechprompt import SpeechPromptConfig
from .modeling_speechprompt import SpeechPromptPreTrainedModel
from .prompt_base import PromptModule
from .verbalizers import VerbalizerHead

__all__ = ["FIRST_ADAPTER", "MultiAdapterModel"]

FIRST_ADAPTER = "default"
"""Name of the adapter that a model was made or opened with."""


@dataclass(frozen=True)
class _Adapter:
    """What is swapped when another adapter becomes active. It holds nothing of the base."""

    config: SpeechPromptConfig
    prompt: PromptModule | None
    verbalizer: VerbalizerHead
    frozen: tuple[str, ...] = ()  # parameters that are not trained while it is active

    @property
    def parts(self) -> nn.ModuleDict:
        parts: dict[str, nn.Module] = {"verbalizer": self.verbalizer}
        if self.prompt is not None:
            parts["prompt"] = self.prompt
        return nn.ModuleDict(parts)


class MultiAdapterModel(SpeechPromptPreTrainedModel):
    """A prompted language model that keeps further adapters of the same base beside the active one.

    The active adapter is the model's `config`, `prompt` and `verbalizer`: what is trained, saved and used unless
    `adapter_names` says otherwise. The others keep their tensors, without gradients, and are neither among the
    model's parameters nor in its state dictionary; they move with it to other devices.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._active_adapter = FIRST_ADAPTER
        # The active one has no entry of its own: it is the model's.
        self._adapters: dict[str, _Adapter | None] = {FIRST_ADAPTER: None}

    @property
    def active_adapter(self) -> str:
        """Name of the adapter that is trained, saved and used by default."""
        return self._active_adapter

    @property
    def adapter_names(self) -> list[str]:
        """Names of all adapters, in the order in which they came."""
        return list(self._adapters)

    def active_adapters(self) -> list[str]:
        """The active adapter's name in a list, as transformers asks for it."""
        return [self._active_adapter]

    def load_adapter(  # type: ignore[override]
        self, name_or_path: str | os.PathLike[str], adapter_name: str, **hub: Any
    ) -> None:
        """Load a further adapter of the same base; the active adapter stays active. The base is not loaded again.

        Args:
            name_or_path (`str | PathLike`): folder or Hub id of an adapter of method `"prompt"` or `"probe"`.
            adapter_name (`str`): how it is called here.
            hub: `revision`, `subfolder`, `token`, `cache_dir`, `force_download`, `local_files_only`.

        Raises:
            AdapterError: the name is taken, a file is missing or does not fit, or one of the two is fine-tuned: a
                fine-tuned model is a base of its own.
            FingerprintMismatchError: the adapter was trained on another base, or on other units.
            ConfigurationError: an unknown keyword, or an empty name.
        """
        name = os.fspath(name_or_path)
        strangers = sorted(set(hub) - set(HUB_KEYS))
        if strangers:
            raise ConfigurationError(f"load_adapter does not know {', '.join(strangers)}", hint=", ".join(HUB_KEYS))
        if not isinstance(adapter_name, str) or not adapter_name:
            raise ConfigurationError(f"adapter_name is {adapter_name!r}", hint="give the adapter a name")
        if adapter_name in self._adapters:
            raise AdapterError(
                f"there is an adapter {adapter_name!r} already", hint="delete_adapter it first, or take another name"
            )
        if self.config.method == "finetune":
            raise AdapterError(
                "this model is fine-tuned: its language model is no longer the base of other adapters",
                hint="open an adapter of method 'prompt' or 'probe' first, then load the others into it",
            )
        hub = {key: value for key, value in hub.items() if value is not None}
        config = read_config(name, **hub)
        if config.method == "finetune":
            raise AdapterError(
                f"{name} is fine-tuned: it holds a language model of its own and cannot share this one",
                hint="open it by itself with from_pretrained",
            )
        self._check_units(name, config)
        try:
            opened = type(self).from_pretrained(name, config=config, base=self.lm, **hub)
        finally:
            # Opening puts the base into evaluation mode.
            self.train(self.training)
        for field in ("base_fingerprint", "unit_fingerprint", "trained_with"):
            _share(field, opened.config, self.config)
        adapter = _Adapter(opened.config, opened.prompt, opened.verbalizer)
        self._adapters[adapter_name] = _put_aside(adapter)

    def set_adapter(self, adapter_name: str) -> None:  # type: ignore[override]
        """Make an adapter the active one: its prompt, verbalizer, labels and readout.

        Only the active adapter's parameters have gradients; an optimizer that was made before goes on to hold the
        earlier adapter's. What was trained is kept as it is when its adapter is put aside.

        Raises:
            AdapterError: there is no such adapter.
        """
        self._check_known(adapter_name)
        adapter = self._adapters[adapter_name]
        if adapter is None:
            return
        self._adapters[self._active_adapter] = _put_aside(_Adapter(self.config, self.prompt, self.verbalizer))
        self._adapters[adapter_name] = None
        self._active_adapter = adapter_name
        self.config, self.prompt, self.verbalizer = adapter.config, adapter.prompt, adapter.verbalizer
        for name, parameter in adapter.parts.named_parameters():
            parameter.requires_grad_(name not in adapter.frozen)
        self.train(self.training)

    def rename_adapter(self, adapter_name: str, new_name: str) -> None:
        """Call an adapter by another name.

        Raises:
            AdapterError: there is no such adapter, or the new name is taken.
            ConfigurationError: an empty name.
        """
        self._check_known(adapter_name)
        if not new_name:
            raise ConfigurationError(f"new_name is {new_name!r}", hint="give the adapter a name")
        if new_name in self._adapters and new_name != adapter_name:
            raise AdapterError(f"there is an adapter {new_name!r} already", hint="take another name")
        self._adapters = {
            new_name if name == adapter_name else name: adapter for name, adapter in self._adapters.items()
        }
        if self._active_adapter == adapter_name:
            self._active_adapter = new_name

    def delete_adapter(self, adapter_name: str) -> None:  # type: ignore[override]
        """Forget an adapter.

        Raises:
            AdapterError: there is no such adapter, or it is the active one.
        """
        self._check_known(adapter_name)
        if adapter_name == self._active_adapter:
            raise AdapterError(
                f"the adapter {adapter_name!r} is active and cannot be deleted", hint="set_adapter another one first"
            )
        del self._adapters[adapter_name]

    def adapter_config(self, adapter_name: str | None = None) -> SpeechPromptConfig:
        """The configuration of an adapter, with its class names, labels and readout; the active one's by default.

        Raises:
            AdapterError: there is no such adapter.
        """
        adapter = self._adapter(self._active_adapter if adapter_name is None else adapter_name)
        return adapter.config

    def _adapter(self, adapter_name: str) -> _Adapter:
        self._check_known(adapter_name)
        return self._adapters[adapter_name] or _Adapter(self.config, self.prompt, self.verbalizer)

    def _check_known(self, adapter_name: str) -> None:
        if adapter_name not in self._adapters:
            raise AdapterError(
                f"there is no adapter {adapter_name!r}; known are {', '.join(map(repr, self._adapters))}",
                hint="load_adapter loads a further one",
            )

    def _check_units(self, name: str, config: SpeechPromptConfig) -> None:
        given, own = config.unit_fingerprint, self.config.unit_fingerprint
        if given and own and given.get("digest") != own.get("digest"):
            raise FingerprintMismatchError(
                f"{name} was trained on units {str(given.get('digest'))[:16]}, this model on "
                f"{str(own.get('digest'))[:16]}",
                hint="load only adapters whose recordings are turned into the same units",
            )

    def _adapter_rows(self, adapter_names: Sequence[str], batch_size: int, device: torch.device) -> list[AdapterRows]:
        """The distinct adapters of a batch and their rows.

        Raises:
            AdapterError: an unknown name.
            ConfigurationError: not one name a row.
        """
        if isinstance(adapter_names, str):
            raise ConfigurationError(f"adapter_names is {adapter_names!r}", hint="a list of names, one a row")
        if len(adapter_names) != batch_size:
            raise ConfigurationError(
                f"{len(adapter_names)} adapter_names for a batch of {batch_size} rows", hint="give one name a row"
            )
        groups = []
        for name in dict.fromkeys(adapter_names):
            adapter = self._adapter(name)
            rows = [row for row, other in enumerate(adapter_names) if other == name]
            prompt = None if adapter.prompt is None else adapter.prompt.states(self.lm)
            groups.append(AdapterRows(prompt, adapter.verbalizer, torch.tensor(rows, device=device)))
        return groups

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        for adapter in self._adapters.values():
            if adapter is not None:
                adapter.parts._apply(fn)
        return self


def _put_aside(adapter: _Adapter) -> _Adapter:
    """The adapter without gradients and dropout."""
    parts = adapter.parts
    frozen = tuple(name for name, parameter in parts.named_parameters() if not parameter.requires_grad)
    parts.requires_grad_(False)
    parts.zero_grad()
    parts.eval()
    return _Adapter(adapter.config, adapter.prompt, adapter.verbalizer, frozen)


def _share(field: str, config: SpeechPromptConfig, other: SpeechPromptConfig) -> None:
    """Keep equal values once: they are the same for thousands of adapters."""
    if getattr(config, field, None) == getattr(other, field, None) is not None:
        setattr(config, field, getattr(other, field))
