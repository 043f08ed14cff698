"""Processes of one launch work on cells of their own, each on one device, so the trainer must not join them."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import NamedTuple

import torch

from ..core.devices import usable_device
from ..core.errors import ConfigurationError

__all__ = ["Place", "leave_group", "use_one_device"]

_GROUP = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
_PREFIXES = ("TORCHELASTIC_", "ROLE_", "GROUP_", "ACCELERATE_", "FSDP_")
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Place(NamedTuple):
    """Where a process stands in its launch.

    Attributes:
        rank (`int`): its number.
        size (`int`): how many there are.
        local_rank (`int`): its number on its machine.
    """

    rank: int
    size: int
    local_rank: int


def leave_group(environment: MutableMapping[str, str] = os.environ) -> Place:
    """Take what `accelerate launch` or `torchrun` set out of the environment.

    Args:
        environment (`MutableMapping[str, str]`): of this process; it is changed.

    Returns:
        `Place`: `(0, 1, 0)` without a launcher.

    Raises:
        ConfigurationError: numbers that contradict each other.
    """
    size, rank = _number(environment, "WORLD_SIZE", 1), _number(environment, "RANK", 0)
    local_rank = _number(environment, "LOCAL_RANK", 0)
    if not 0 <= rank < size:
        raise ConfigurationError(f"RANK is {rank} and WORLD_SIZE is {size}", hint="ranks run from 0 to WORLD_SIZE - 1")
    for name in list(environment):
        if name in _GROUP or name.startswith(_PREFIXES):
            del environment[name]
    return Place(rank, size, local_rank)


def _number(environment: MutableMapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "") or str(default)
    try:
        return int(text)
    except ValueError:
        raise ConfigurationError(f"{name} is {text!r}", hint="a whole number, as torchrun sets it") from None


def use_one_device(device: str | None, local_rank: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Let this process see one GPU: the trainer would spread a cell over all that it sees.

    It must be called before CUDA is used.

    Args:
        device (`str`, *optional*): `"cpu"`, `"cuda"`, or `"cuda:1"` among those that are visible now.
        local_rank (`int`): shares the GPUs out where the device has no number.
        environment (`MutableMapping[str, str]`): of this process; it is changed.

    Raises:
        ConfigurationError: another device, or one that cannot be used here.
    """
    kind, mark, number = (device or "cuda").partition(":")
    if kind not in ("cpu", "cuda") or (mark and not (kind == "cuda" and number.isdecimal())):
        raise ConfigurationError(f"the device is {device!r}", hint="cpu, cuda, or cuda with a number such as cuda:1")
    if kind == "cuda":
        given = environment.get(_VISIBLE)
        # Counting asks the driver without making a context, which would fix what is visible.
        count = torch.cuda.device_count() if given is None else 0
        names = [str(each) for each in range(count)] if given is None else [each for each in given.split(",") if each]
        if mark and int(number) >= len(names):
            raise ConfigurationError(f"the device is {device!r}", hint=f"{len(names)} GPU(s) are visible here")
        if len(names) > 1:
            environment[_VISIBLE] = names[int(number) if mark else local_rank % len(names)]
    if device is not None:
        usable_device(kind)
