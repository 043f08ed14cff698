"""Sound of units that are still arriving: each frame is made once all that it depends on is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.errors import ConfigurationError, UnitError
from .unit_hifigan_inputs import check_speakers

if TYPE_CHECKING:
    from .modeling_unit_vocoder import UnitVocoder

__all__ = ["UnitVocoderStream"]


class UnitVocoderStream:
    """One utterance on its way through a vocoder.

    What it keeps is bounded by the receptive field, however long the utterance.

    Args:
        vocoder (`UnitVocoder`): in evaluation mode.
        predict_durations (`bool`, *optional*, defaults to `True`): predict the durations of units without one;
            `False`: each lasts one frame.
        speaker_id (`int`, *optional*): the voice, if the vocoder has several.
        chunk_frames (`int`, *optional*, defaults to 10): least frames of a chunk but the last.

    Raises:
        ConfigurationError: the speaker is missing or unknown, there is no duration predictor to ask, or
            `chunk_frames` is below 1.
    """

    def __init__(
        self,
        vocoder: UnitVocoder,
        *,
        predict_durations: bool = True,
        speaker_id: int | None = None,
        chunk_frames: int = 10,
    ) -> None:
        if type(chunk_frames) is not int or chunk_frames < 1:
            raise ConfigurationError(f"chunk_frames is {chunk_frames!r}", hint="a chunk has at least one frame")
        self.vocoder, self.chunk_frames, self.predicts = vocoder, chunk_frames, predict_durations
        speakers = None if speaker_id is None else torch.tensor([speaker_id])
        speakers = check_speakers(speakers, vocoder.config.num_speakers, 1)
        self._speakers = None if speakers is None else speakers.to(vocoder.device)
        self._before, self._behind = vocoder.config.receptive_field_frames
        self._reach = vocoder.config.duration_receptive_field_units
        self._units: list[int] = []  # those without frames yet, and `_reach` known ones before them
        self._durations: list[int | None] = []
        self._num_known = 0  # of `_units`, how many have frames
        self._frames: list[int] = []  # those without sound yet, and up to `_before` sounding ones before them
        self._num_sounded = 0  # of `_frames`, how many have been made
        self._num_units = 0
        self._is_finished = False

    @torch.no_grad()
    def push(self, unit: Any, duration: Any = None) -> Tensor:
        """Take one more unit.

        Args:
            unit (`int`): its number.
            duration (`int`, *optional*): its frames.

        Returns:
            `Tensor` of shape `(S,)`, float32: samples that can be made now, often none.

        Raises:
            UnitError: the unit or the duration is out of range, or the stream is finished.
        """
        if self._is_finished:
            raise UnitError("this stream is finished", hint="an utterance has a stream of its own")
        self._units.append(self._checked(unit))
        self._durations.append(self._checked_duration(duration))
        self._num_units += 1
        self._make_frames(at_end=False)
        ready = len(self._frames) - self._num_sounded - self._behind
        return self._sound(ready) if ready >= self.chunk_frames else torch.zeros(0)

    @torch.no_grad()
    def finish(self) -> Tensor:
        """The rest of the utterance: no unit follows.

        Returns:
            `Tensor` of shape `(S,)`, float32.

        Raises:
            UnitError: there was not one unit.
        """
        if not self._num_units:
            raise UnitError("the stream has no units", hint="leave out what has nothing to say")
        self._is_finished = True
        self._make_frames(at_end=True)
        return self._sound(len(self._frames) - self._num_sounded)

    def _checked(self, unit: Any) -> int:
        size = self.vocoder.config.vocab_size
        value = unit.item() if isinstance(unit, Tensor) and unit.numel() == 1 else unit
        if isinstance(value, bool) or not hasattr(value, "__index__") or not 0 <= int(value) < size:
            raise UnitError(
                f"unit {unit!r}, number {self._num_units} of the stream, is not among the {size} units from 0 to "
                f"{size - 1}",
                hint="a stream takes unit numbers, not tokens of a language model",
            )
        return int(value)

    def _checked_duration(self, duration: Any) -> int | None:
        if duration is None:
            if not self.predicts:
                return 1
            if self.vocoder.duration_predictor is None:
                raise ConfigurationError(
                    "this vocoder has no duration predictor",
                    hint="give durations in frames, or predict_durations=False for units of frames",
                )
            return None
        value = duration.item() if isinstance(duration, Tensor) and duration.numel() == 1 else duration
        if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < 1:
            raise UnitError(
                f"the duration of unit number {self._num_units} of the stream is {duration!r}",
                hint="durations count frames from 1",
            )
        return int(value)

    def _make_frames(self, *, at_end: bool) -> None:
        """Repeat the units whose durations can be told."""
        waiting = self._durations[self._num_known :]
        stop = self._num_known
        predicted: list[int] | None = None
        for offset, duration in enumerate(waiting):
            index = self._num_known + offset
            if duration is None:
                if not at_end and len(self._units) - 1 - index < self._reach:
                    break
                if predicted is None:
                    row = torch.tensor(self._units, device=self.vocoder.device)
                    predicted = self.vocoder.predicted_frames(row).tolist()
                duration = predicted[index]
            self._frames.extend([self._units[index]] * duration)
            stop = index + 1
        self._num_known = stop
        forgotten = max(0, stop - self._reach)
        del self._units[:forgotten], self._durations[:forgotten]
        self._num_known -= forgotten

    def _sound(self, num_frames: int) -> Tensor:
        """The next frames' samples, made with the frames around them."""
        start, stop = self._num_sounded, self._num_sounded + num_frames
        window = self._frames[: stop + self._behind]
        frames = torch.tensor([window], device=self.vocoder.device)
        samples = self.vocoder.sound(frames, None, self._speakers)[0].float()
        hop = self.vocoder.hop_length
        forgotten = max(0, stop - self._before)
        del self._frames[:forgotten]
        self._num_sounded = stop - forgotten
        return samples[start * hop : stop * hop]
