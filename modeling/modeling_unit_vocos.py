"""The small unit vocoder: units to speech by ConvNeXt blocks and an inverse Fourier transform."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import initialization as init

from .configuration_unit_vocos import UnitVocosConfig
from .modeling_unit_vocoder import UnitVocoder
from .unit_vocos_layers import ConvNextBlock, InverseFourierHead, VocosGenerator

__all__ = ["UnitVocos"]


class UnitVocos(UnitVocoder):
    """Vocoder of speech units that makes spectra rather than samples, and therefore is small and fast.

    Args:
        config (`UnitVocosConfig`): sizes.

    Example:
        `vocoder(units[None]).waveform[0]` is the speech of merged units whose durations are predicted.

    Source:
        Siuzdak, "Vocos: Closing the gap between time-domain and Fourier-based neural vocoders" (2023).
    """

    config_class = UnitVocosConfig
    config: UnitVocosConfig
    base_model_prefix = "unit_vocos"
    _no_split_modules = ["ConvNextBlock"]  # noqa: RUF012 - transformers' own convention

    def __init__(self, config: UnitVocosConfig) -> None:
        super().__init__(config)
        self.generator = VocosGenerator(config)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Open a vocoder; it computes in float32, whatever its file holds, unless `dtype` says otherwise."""
        if kwargs.get("dtype") is None and kwargs.get("torch_dtype") is None:
            kwargs["dtype"] = torch.float32
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv1d | nn.Linear):
            init.trunc_normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, ConvNextBlock):
            init.constant_(module.scale, 1 / max(1, self.config.num_layers + self.config.num_fine_layers))
        elif isinstance(module, InverseFourierHead):
            # Buffers that are not saved are made anew when weights are opened.
            init.copy_(module.window, module.scaled_window())
