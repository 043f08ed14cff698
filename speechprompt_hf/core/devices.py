"""The device that something runs on: the named one if it works here, else the best one."""

from __future__ import annotations

import torch

from .errors import ConfigurationError

__all__ = ["usable_device"]


def usable_device(device: str | torch.device | None = None) -> torch.device:
    """A device that tensors can be put on and read from.

    Args:
        device (`str | torch.device`, *optional*): its name; by default a CUDA GPU where there is one, else the CPU.

    Returns:
        `torch.device`.

    Raises:
        ConfigurationError: this machine or its torch has no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        # The value is read back: tensors on the device "meta" have none.
        torch.zeros(1, device=device).item()
        return torch.device(device)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigurationError(
            f"the device {str(device)!r} cannot be used here: {reason}",
            hint="cpu, cuda, cuda:0 and so on, as far as this machine and its torch have them",
        ) from error
