"""The unit vocoder: units to speech, by HiFi-GAN with predicted or given durations."""

from __future__ import annotations

import torch
from torch import nn
from transformers import initialization as init

from .configuration_unit_hifigan import UnitHifiGanConfig
from .modeling_unit_vocoder import UnitVocoder, UnitVocoderOutput
from .unit_hifigan_layers import HifiGanGenerator

__all__ = ["UnitHifiGan", "UnitHifiGanOutput"]

UnitHifiGanOutput = UnitVocoderOutput


class UnitHifiGan(UnitVocoder):
    """Vocoder of speech units whose generator is HiFi-GAN's.

    Args:
        config (`UnitHifiGanConfig`): sizes.

    Example:
        `vocoder(units[None]).waveform[0]` is the speech of merged units whose durations are predicted.

    Source:
        fairseq `CodeHiFiGANVocoder`, `models/text_to_speech/vocoder.py`, which takes one row at a time.
    """

    config_class = UnitHifiGanConfig
    config: UnitHifiGanConfig
    base_model_prefix = "unit_hifigan"
    _no_split_modules = ["HifiGanResidualBlock"]  # noqa: RUF012 - transformers' own convention

    def __init__(self, config: UnitHifiGanConfig) -> None:
        super().__init__(config)
        self.generator = HifiGanGenerator(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # As in the original: small weights in the generator, but for its first convolution; torch's own elsewhere.
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d | nn.Linear):
            predictor = self.duration_predictor.modules() if self.duration_predictor is not None else ()
            if any(module is each for each in (self.generator.conv_pre, *predictor)):
                init.kaiming_uniform_(module.weight, a=5**0.5)
            else:
                init.normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
