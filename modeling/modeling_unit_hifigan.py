"""The unit vocoder: units to speech, by HiFi-GAN with predicted or given durations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from ..core.errors import ConfigurationError, UnitError
from .configuration_unit_hifigan import UnitHifiGanConfig
from .unit_hifigan_inputs import check_speakers, durations_of_rows, units_of_rows
from .unit_hifigan_layers import DurationPredictor, HifiGanGenerator

__all__ = ["UnitHifiGan", "UnitHifiGanOutput"]

MAX_PREDICTED_FRAMES = 3000
"""A minute of a single unit at 50 frames a second: no prediction, but a model of something else."""


@dataclass
class UnitHifiGanOutput(ModelOutput):
    """Speech of a batch.

    Attributes:
        waveform (`Tensor` of shape `(B, S)`, float32): samples in [-1, 1], zero behind each row's end.
        waveform_lengths (`LongTensor` of shape `(B,)`): samples of each row.
        durations (`LongTensor` of shape `(B, U)`): frames of each unit, 0 for padding.
    """

    waveform: Tensor | None = None
    waveform_lengths: Tensor | None = None
    durations: Tensor | None = None


class UnitHifiGan(PreTrainedModel):
    """Vocoder of speech units.

    Each unit is embedded, repeated for its duration, and a HiFi-GAN generator makes `hop_length` samples of each
    frame. Rows of a batch do not see each other, nor their padding: each has the durations and, up to float error,
    the samples that it has alone. Padding costs time: batch rows of similar lengths.

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
    main_input_name = "input_ids"
    _no_split_modules = ["HifiGanResidualBlock"]  # noqa: RUF012 - transformers' own convention

    def __init__(self, config: UnitHifiGanConfig) -> None:
        super().__init__(config)
        self.unit_embedding = nn.Embedding(config.vocab_size, config.unit_embed_dim)
        self.speaker_embedding = (
            nn.Embedding(config.num_speakers, config.unit_embed_dim) if config.num_speakers else None
        )
        self.duration_predictor = DurationPredictor(config) if config.duration_predictor_hidden_size else None
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

    @property
    def sampling_rate(self) -> int:
        """Of the audio, in hertz."""
        return self.config.sampling_rate

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.config.hop_length

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.config.frame_rate

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        durations: Tensor | None = None,
        speaker_ids: Tensor | None = None,
        predict_durations: bool = True,
        return_dict: bool | None = None,
    ) -> UnitHifiGanOutput | tuple[Any, ...]:
        """Speech of a batch of units.

        Args:
            input_ids (`LongTensor` of shape `(B, U)`): unit numbers from 0 to K - 1, merged or one a frame.
            attention_mask (`Tensor` of shape `(B, U)`, *optional*): 1 for real units; the others, on whatever side,
                are left out.
            durations (`LongTensor` of shape `(B, U)`, *optional*): frames of each unit, at least 1. They are predicted
                without it.
            speaker_ids (`LongTensor` of shape `(B,)`, *optional*): the voice of each row, if the vocoder has several.
            predict_durations (`bool`, defaults to `True`): predict durations where none are given; `False`: every
                unit lasts one frame, as units of frames do.
            return_dict (`bool`, *optional*): `False` returns a tuple.

        Returns:
            `UnitHifiGanOutput`: samples, the number of samples of each row, and the durations.

        Raises:
            UnitError: units or durations are empty, of a wrong shape or type, or out of range.
            ConfigurationError: speakers are missing or unknown, or there is no duration predictor to ask.
        """
        rows, mask = units_of_rows(input_ids, attention_mask, self.config.vocab_size)
        speakers = check_speakers(speaker_ids, self.config.num_speakers, len(rows))
        if durations is not None:
            lengths = durations_of_rows(durations, mask)
        elif predict_durations:
            lengths = [self._predicted(units, index) for index, units in enumerate(rows)]
        else:
            lengths = [torch.ones_like(units) for units in rows]
        frames = [torch.repeat_interleave(units, length) for units, length in zip(rows, lengths, strict=True)]
        num_frames = torch.tensor([len(row) for row in frames], device=mask.device)
        output = UnitHifiGanOutput(
            waveform=self._waveform(frames, num_frames, speakers),
            waveform_lengths=num_frames * self.hop_length,
            durations=mask.long().masked_scatter(mask, torch.cat(lengths)),
        )
        return output.to_tuple() if return_dict is False else output

    def predict_durations(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Frames that each of the merged units lasts.

        Args:
            input_ids (`LongTensor` of shape `(B, U)`): merged units.
            attention_mask (`Tensor` of shape `(B, U)`, *optional*): 1 for real units.

        Returns:
            `LongTensor` of shape `(B, U)`: frames, at least 1, and 0 for padding.

        Raises:
            UnitError: units are empty, of a wrong shape or type, or out of range.
            ConfigurationError: the vocoder has no duration predictor.
        """
        rows, mask = units_of_rows(input_ids, attention_mask, self.config.vocab_size)
        lengths = torch.cat([self._predicted(units, index) for index, units in enumerate(rows)])
        return mask.long().masked_scatter(mask, lengths)

    def _predicted(self, units: Tensor, row: int) -> Tensor:
        """Frames of each unit of one row.

        A row at a time: rounding would make a whole frame of a last bit that differs in a batch.
        """
        if self.duration_predictor is None:
            raise ConfigurationError(
                "this vocoder has no duration predictor",
                hint="give durations in frames, or predict_durations=False for units of frames",
            )
        logarithms = self.duration_predictor(self.unit_embedding(units)[None])[0]
        frames = torch.round(torch.exp(logarithms.float()) - 1).clamp(min=1)
        impossible = (~(frames <= MAX_PREDICTED_FRAMES)).nonzero()
        if len(impossible):
            column = int(impossible[0])
            raise UnitError(
                f"unit {int(units[column])}, number {column} of row {row}, is predicted to last "
                f"{float(frames[column])} frames",
                hint="the units or weights are not those that the predictor was trained with",
            )
        return frames.long()

    def _waveform(self, frames: list[Tensor], num_frames: Tensor, speakers: Tensor | None) -> Tensor:
        """Samples of shape `(B, S)` of rows with one unit a frame."""
        hidden_states = self.unit_embedding(pad_sequence(frames, batch_first=True)).transpose(1, 2)
        if self.speaker_embedding is not None:
            voices = self.speaker_embedding(speakers)[:, :, None].expand(-1, -1, hidden_states.shape[2])
            hidden_states = torch.cat([hidden_states, voices], dim=1)
        is_ragged = len({len(row) for row in frames}) > 1
        return self.generator(hidden_states, num_frames if is_ragged else None).float()
