"""What all unit vocoders do: units to frames by durations, frames to sound by a generator, whole or as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..core.errors import ConfigurationError, UnitError
from .configuration_unit_vocoder import UnitVocoderConfig
from .unit_hifigan_inputs import check_speakers, durations_of_rows, units_of_rows
from .unit_hifigan_layers import DurationPredictor
from .unit_vocoder_stream import UnitVocoderStream

__all__ = ["UnitVocoder", "UnitVocoderOutput"]

MAX_PREDICTED_FRAMES = 3000
"""A minute of a single unit at 50 frames a second: no prediction, but a model of something else."""


@dataclass
class UnitVocoderOutput(ModelOutput):
    """Speech of a batch.

    Attributes:
        waveform (`Tensor` of shape `(B, S)`, float32): samples in [-1, 1], zero behind each row's end.
        waveform_lengths (`LongTensor` of shape `(B,)`): samples of each row.
        durations (`LongTensor` of shape `(B, U)`): frames of each unit, 0 for padding.
    """

    waveform: Tensor | None = None
    waveform_lengths: Tensor | None = None
    durations: Tensor | None = None


class UnitVocoder(PreTrainedModel):
    """Vocoder of speech units; a subclass brings `generator`, embedded frames to samples.

    Each unit is embedded, repeated for its duration, and the generator makes `hop_length` samples of each frame. Rows
    of a batch do not see each other, nor their padding: each has the durations and, up to float error, the samples
    that it has alone. Padding costs time: batch rows of similar lengths.

    Args:
        config (`UnitVocoderConfig`): sizes.

    Example:
        `vocoder(units[None]).waveform[0]` is the speech of merged units whose durations are predicted.
    """

    config: UnitVocoderConfig
    base_model_prefix = "unit_vocoder"
    main_input_name = "input_ids"
    generator: nn.Module

    def __init__(self, config: UnitVocoderConfig) -> None:
        super().__init__(config)
        self.unit_embedding = nn.Embedding(config.vocab_size, config.unit_embed_dim)
        self.speaker_embedding = (
            nn.Embedding(config.num_speakers, config.unit_embed_dim) if config.num_speakers else None
        )
        self.duration_predictor = DurationPredictor(config) if config.duration_predictor_hidden_size else None

    @property
    def sampling_rate(self) -> int:
        """Of the audio, in hertz."""
        return self.config.sampling_rate

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.config.samples_per_frame

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
    ) -> UnitVocoderOutput | tuple[Any, ...]:
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
            `UnitVocoderOutput`: samples, the number of samples of each row, and the durations.

        Raises:
            UnitError: units or durations are empty, of a wrong shape or type, or out of range.
            ConfigurationError: speakers are missing or unknown, or there is no duration predictor to ask.
        """
        rows, mask = units_of_rows(input_ids, attention_mask, self.config.vocab_size)
        speakers = check_speakers(speaker_ids, self.config.num_speakers, len(rows))
        if durations is not None:
            lengths = durations_of_rows(durations, mask)
        elif predict_durations:
            lengths = [self.predicted_frames(units, index) for index, units in enumerate(rows)]
        else:
            lengths = [torch.ones_like(units) for units in rows]
        frames = [torch.repeat_interleave(units, length) for units, length in zip(rows, lengths, strict=True)]
        num_frames = torch.tensor([len(row) for row in frames], device=mask.device)
        is_ragged = len({len(row) for row in frames}) > 1
        output = UnitVocoderOutput(
            waveform=self.sound(
                pad_sequence(frames, batch_first=True), num_frames if is_ragged else None, speakers
            ).float(),
            waveform_lengths=num_frames * self.hop_length,
            durations=mask.long().masked_scatter(mask, torch.cat(lengths)),
        )
        return output.to_tuple() if return_dict is False else output

    @torch.no_grad()
    def generate_stream(
        self,
        units: Iterable[Any],
        *,
        predict_durations: bool = True,
        speaker_id: int | None = None,
        chunk_frames: int = 10,
    ) -> Iterator[Tensor]:
        """Speech of units that are still arriving; sound starts before the last one is known.

        The chunks joined are what one pass over all units makes, up to float error: a frame's sound is made once all
        units that it depends on are there. They are `receptive_field_frames[1]` frames ahead, and for predicted
        durations another `duration_receptive_field_units` units.

        Args:
            units (`Iterable`): unit numbers, or pairs of a unit and its duration in frames; merged, or with
                `predict_durations=False` one a frame.
            predict_durations (`bool`, *optional*, defaults to `True`): predict the durations of units without one;
                `False`: each lasts one frame.
            speaker_id (`int`, *optional*): the voice, if the vocoder has several.
            chunk_frames (`int`, *optional*, defaults to 10): least frames of a chunk but the last: fewer sound sooner
                and take more work.

        Yields:
            `Tensor` of shape `(S,)`, float32: the samples that follow those before.

        Raises:
            UnitError: a unit or a duration is out of range, or there is no unit.
            ConfigurationError: the speaker is missing or unknown, there is no duration predictor to ask, or
                `chunk_frames` is below 1.
        """
        stream = UnitVocoderStream(
            self, predict_durations=predict_durations, speaker_id=speaker_id, chunk_frames=chunk_frames
        )
        for item in units:
            unit, duration = item if isinstance(item, tuple | list) else (item, None)
            chunk = stream.push(unit, duration)
            if len(chunk):
                yield chunk
        yield stream.finish()

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
        lengths = torch.cat([self.predicted_frames(units, index) for index, units in enumerate(rows)])
        return mask.long().masked_scatter(mask, lengths)

    def predicted_frames(self, units: Tensor, row: int = 0) -> Tensor:
        """Frames of each unit of one row.

        A row at a time and in double precision: rounding would make a whole frame of a last bit that differs in a
        batch, or in a part of the row.

        Args:
            units (`LongTensor` of shape `(U,)`): merged units in range.
            row (`int`, *optional*, defaults to 0): how errors call the row.

        Returns:
            `LongTensor` of shape `(U,)`: at least 1 each.

        Raises:
            UnitError: a duration is impossible.
            ConfigurationError: the vocoder has no duration predictor.
        """
        if self.duration_predictor is None:
            raise ConfigurationError(
                "this vocoder has no duration predictor",
                hint="give durations in frames, or predict_durations=False for units of frames",
            )
        with torch.no_grad():
            weights = {name: value.double() for name, value in self.duration_predictor.state_dict().items()}
            embedded = self.unit_embedding(units)[None].double()
            logarithms = functional_call(self.duration_predictor, weights, (embedded,))[0]
        frames = torch.round(torch.exp(logarithms) - 1).clamp(min=1)
        impossible = (~(frames <= MAX_PREDICTED_FRAMES)).nonzero()
        if len(impossible):
            column = int(impossible[0])
            raise UnitError(
                f"unit {int(units[column])}, number {column} of row {row}, is predicted to last "
                f"{float(frames[column])} frames",
                hint="the units or weights are not those that the predictor was trained with",
            )
        return frames.long()

    def sound(self, frames: Tensor, num_frames: Tensor | None = None, speaker_ids: Tensor | None = None) -> Tensor:
        """Samples of rows with one unit a frame, without checks.

        Args:
            frames (`LongTensor` of shape `(B, T)`): units.
            num_frames (`LongTensor` of shape `(B,)`, *optional*): frames of each row; T without it.
            speaker_ids (`LongTensor` of shape `(B,)`, *optional*): the voice of each row.

        Returns:
            `Tensor` of shape `(B, T * hop_length)`: zero behind each row's end.
        """
        hidden_states = self.unit_embedding(frames).transpose(1, 2)
        if self.speaker_embedding is not None:
            voices = self.speaker_embedding(speaker_ids)[:, :, None].expand(-1, -1, hidden_states.shape[2])
            hidden_states = torch.cat([hidden_states, voices], dim=1)
        return self.generator(hidden_states, num_frames)
