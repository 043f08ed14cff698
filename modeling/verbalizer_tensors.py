"""What all verbalizers do with their tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.errors import AdapterError

__all__ = ["initial_value", "take_over"]


def initial_value(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform weights of variance 1 / (3 · inputs), as `nn.Linear`'s; biases begin at zero.

    Args:
        shape (`tuple[int, ...]`): rows and inputs, or rows alone for a bias.
        generator (`torch.Generator`): the randomness.
    """
    if len(shape) == 1:
        return torch.zeros(shape)
    bound = shape[-1] ** -0.5
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def take_over(verbalizer: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Fill a verbalizer with saved tensors.

    Raises:
        AdapterError: names or shapes differ.
    """
    own = {name: tuple(tensor.shape) for name, tensor in verbalizer.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if own != given:
        raise AdapterError(
            f"the verbalizer file holds {given}, its configuration needs {own}",
            hint="config.json and verbalizer.safetensors come from different runs; save the adapter again",
        )
    verbalizer.load_state_dict(tensors)
