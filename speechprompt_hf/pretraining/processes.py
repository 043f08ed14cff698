"""The processes that train together: what torchrun and accelerate launch say of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..core.devices import usable_device
from ..core.errors import ConfigurationError
from .sharding import Sharding

__all__ = ["Processes"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """This process among those of a launcher.

    Args:
        rank (`int`): its number.
        size (`int`): how many there are.
        device (`torch.device`): where it trains.
        sharding ([`Sharding`], *optional*): parameters are shared out among the processes (FSDP); by default each has
            them all (`DistributedDataParallel`).
    """

    rank: int
    size: int
    device: torch.device
    sharding: Sharding | None = None

    @classmethod
    def join(cls, device: str | torch.device | None = None, environment: Mapping[str, str] | None = None) -> Processes:
        """Joins the processes of a launcher, or stands alone.

        Args:
            device (`str | torch.device`, *optional*): where to train; by default a GPU where there is one, by
                `LOCAL_RANK` where there are several.
            environment (`Mapping[str, str]`, *optional*): `os.environ` by default.

        Raises:
            ConfigurationError: there is no such device, `WORLD_SIZE` comes without `RANK`, or FSDP is asked for in a
                way that [`Sharding`] does not know.
        """
        values = os.environ if environment is None else environment
        size = int(values.get("WORLD_SIZE", "1"))
        if size > 1 and "RANK" not in values:
            raise ConfigurationError(
                f"WORLD_SIZE is {size}, and RANK is not set", hint="start it with torchrun or accelerate launch"
            )
        sharding = Sharding.from_environment(values) if size > 1 else None
        if size > 1 and device is None and torch.cuda.is_available():
            device = f"cuda:{int(values.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
        place = usable_device(device)
        if size == 1:
            return cls(0, 1, place)
        if not torch.distributed.is_initialized():
            if place.type == "cuda":
                torch.cuda.set_device(place)
            torch.distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
        return cls(torch.distributed.get_rank(), torch.distributed.get_world_size(), place, sharding)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def own(self, items: Sequence[Item]) -> list[Item]:
        """This process's share of the items: every `size`-th one."""
        return list(items[self.rank :: self.size])

    def wrap(self, model: nn.Module) -> Any:
        """The model with gradients averaged over processes; itself, if it stands alone.

        With `sharding` the model itself is changed: make the optimizer after this.
        """
        if self.size == 1:
            return model
        if self.sharding is not None:
            self.sharding.apply(model, self.device)
            return model
        # The graph is the same in every step, and frozen parts have no gradients.
        return nn.parallel.DistributedDataParallel(model)

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a number over processes, on the device of `value`."""
        if self.size > 1:
            value = value.clone()
            torch.distributed.all_reduce(value)
        return value

    def wait(self, *, patiently: bool = False) -> None:
        """Returns when every process is here.

        Args:
            patiently (`bool`, *optional*, defaults to `False`): one of them works for hours: do not take it for lost
                after the minutes that torch allows.
        """
        if self.size > 1:
            # `Any`: torch's own types of the two do not fit each other in every version.
            group: Any = torch.distributed.new_group(backend="gloo", timeout=timedelta(days=7)) if patiently else None
            torch.distributed.barrier(group=group)
