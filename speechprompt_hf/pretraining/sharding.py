"""Parameters, gradients and moments shared out among processes (FSDP), by accelerate's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ..core.errors import ConfigurationError

__all__ = ["Sharding", "WholeState"]

_REFUSED = ("FSDP_OFFLOAD_PARAMS", "FSDP_ACTIVATION_CHECKPOINTING", "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Sharding:
    """What `accelerate launch` says of FSDP.

    Args:
        reshard_after_forward (`bool`, *optional*, defaults to `True`): layers are gathered for the forward, and again
            for the backward pass; otherwise they stay whole in between.
    """

    reshard_after_forward: bool = True

    @classmethod
    def from_environment(cls, values: Mapping[str, str]) -> Sharding | None:
        """Reads accelerate's variables.

        Args:
            values (`Mapping[str, str]`): `os.environ`, of which `ACCELERATE_USE_FSDP`, `FSDP_VERSION` and
                `FSDP_RESHARD_AFTER_FORWARD` count. Layers are wrapped, and states written whole, whatever the others
                say.

        Returns:
            `Sharding`, or `None` without FSDP.

        Raises:
            ConfigurationError: version 1 is asked for, or what this pretraining has not (`FSDP_OFFLOAD_PARAMS`,
                `FSDP_ACTIVATION_CHECKPOINTING`).
        """
        if not _boolean(values, "ACCELERATE_USE_FSDP", default=False):
            return None
        # As accelerate reads it.
        version = values.get("FSDP_VERSION", "1")
        if version != "2":
            raise ConfigurationError(
                f"FSDP_VERSION is {version!r}, and pretraining shards with version 2",
                hint="write fsdp_version: 2 under fsdp_config, or set FSDP_VERSION=2",
            )
        for name in _REFUSED:
            if _boolean(values, name, default=False):
                raise ConfigurationError(
                    f"{name} is {values[name]!r}, which pretraining does not know",
                    hint=f"write {name.lower()}: false under fsdp_config, or set {name}=false",
                )
        return cls(_boolean(values, "FSDP_RESHARD_AFTER_FORWARD", default=True))

    def apply(self, model: nn.Module, device: torch.device) -> None:
        """Shards a model's trained parameters in place, layer by layer, among all processes.

        Args:
            model (`PreTrainedModel`): the same one in every process, on `device`; its layers are those that
                `_no_split_modules` names.
            device (`torch.device`): where it trains.
        """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        # Without a mesh, torch takes the best device of the machine.
        mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
        # What belongs to adapters is frozen and small, and modules replace it when they load.
        frozen = {parameter for parameter in model.parameters() if not parameter.requires_grad}
        layers = set(getattr(model, "_no_split_modules", None) or ())
        inner = [module for module in model.modules() if type(module).__name__ in layers]
        for module in [*inner, model]:
            fully_shard(module, mesh=mesh, reshard_after_forward=self.reshard_after_forward, ignored_params=frozen)


def _boolean(values: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = values.get(name, "").strip().lower()
    if not text:
        return default
    if text not in _BOOLEANS:
        raise ConfigurationError(f"{name} is {values[name]!r}", hint="true or false")
    return _BOOLEANS[text]


class WholeState:
    """The state of a model or of its optimizer as one process alone has it, sharded or not.

    Files in this form do not depend on how many processes wrote them.

    Args:
        part (`nn.Module` or `Optimizer`): whose state it is.
    """

    def __init__(self, part: nn.Module | torch.optim.Optimizer) -> None:
        self.part = part
        self._collected: dict[str, Any] | None = None

    def collect(self, *, keep: bool) -> None:
        """Gathers the state; all processes call it at the same time.

        Args:
            keep (`bool`): remember it for `state_dict`.
        """
        collected = _gathered(self.part.state_dict(), keep=keep)
        self._collected = collected if keep else None

    def state_dict(self) -> dict[str, Any]:
        """What was collected last; without it the part's own state."""
        return self.part.state_dict() if self._collected is None else self._collected

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes a whole state; each process keeps its share.

        Args:
            state (`Mapping`): what `state_dict` gave here or in any other number of processes.
        """
        if isinstance(self.part, nn.Module):
            own = self.part.state_dict()
            # Names that the part lacks stay in, so that it refuses them.
            self.part.load_state_dict({name: _shared_as(own.get(name), value) for name, value in state.items()})
            return
        parameters = [parameter for group in self.part.param_groups for parameter in group["params"]]
        moments = {
            index: {name: _shared_as(parameters[index], value) for name, value in values.items()}
            for index, values in state["state"].items()
        }
        self.part.load_state_dict({**state, "state": moments})


def _gathered(value: Any, *, keep: bool) -> Any:
    """Whole tensors in the place of shards, one at a time; on the CPU, or `None` where they are not kept."""
    if isinstance(value, DTensor):
        whole = value.full_tensor()
        return whole.cpu() if keep else None
    if isinstance(value, Mapping):
        return {key: _gathered(item, keep=keep) for key, item in value.items()}
    return value


def _shared_as(reference: Tensor | None, value: Any) -> Any:
    """The shard of a tensor that this process has of `reference`; the value itself, if that is no shard."""
    if not isinstance(reference, DTensor) or not isinstance(value, Tensor) or value.shape != reference.shape:
        return value
    # Every process has read the whole tensor: nothing is sent.
    return distribute_tensor(
        value.to(reference.device), reference.device_mesh, reference.placements, src_data_rank=None
    )
