"""What `pipeline()` loads: recordings of any kind to padded, normalised samples. NumPy only."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from transformers import BatchFeature, SequenceFeatureExtractor

from ..core.audio_io import check_waveform, load_waveform
from ..core.errors import AudioError, AudioValueError, ConfigurationError

__all__ = ["NORMALIZATIONS", "SpeechUnitFeatureExtractor", "normalize_waveform"]

_BLOCK_SAMPLES = 1_000_000
NORMALIZATIONS = ("none", "zero_mean_unit_variance", "unit_rms")


def normalize_waveform(waveform: NDArray[np.float32], normalization: str) -> NDArray[np.float32]:
    """Scale the samples of one whole recording as its encoder was trained.

    Args:
        waveform (`NDArray[float32]` of shape `(S,)`): real samples only, no padding.
        normalization (`str`): `"none"` (HuBERT base); `"zero_mean_unit_variance"` (HuBERT large, wav2vec 2.0 with
            `do_normalize`; variance + 1e-7 as in `Wav2Vec2FeatureExtractor`); `"unit_rms"` (the embedded encoder).

    Returns:
        `NDArray[float32]` of shape `(S,)`; silence stays silence.

    Raises:
        ConfigurationError: no such normalization.
    """
    if normalization == "none":
        return waveform
    if normalization not in NORMALIZATIONS:
        raise ConfigurationError(f"normalization {normalization!r}", hint=f"choose one of {', '.join(NORMALIZATIONS)}")
    mean, square = 0.0, 0.0
    if normalization == "zero_mean_unit_variance":
        mean = float(waveform.mean(dtype=np.float64))
    # In float64 and in blocks, so that an hour of sound needs no copy in double precision.
    starts = range(0, len(waveform), _BLOCK_SAMPLES)
    for start in starts:
        block = waveform[start : start + _BLOCK_SAMPLES].astype(np.float64) - mean
        square += float(block @ block)
    square /= max(1, len(waveform))
    scale = float(np.sqrt(square + 1e-7)) if normalization == "zero_mean_unit_variance" else float(np.sqrt(square))
    if scale == 0:
        return waveform
    scaled = np.empty_like(waveform)
    for start in starts:
        scaled[start : start + _BLOCK_SAMPLES] = (
            waveform[start : start + _BLOCK_SAMPLES].astype(np.float64) - mean
        ) / scale
    return scaled


class SpeechUnitFeatureExtractor(SequenceFeatureExtractor):
    """Recordings to `input_values` and `attention_mask`, both counted in samples at the encoder's rate.

    The units themselves are made where the encoder is: a pipeline loads only this class and moves only the model to a
    device, so a model with an attached processor turns `input_values` into units in its forward.

    Args:
        feature_size (`int`, *optional*, defaults to 1): channels; only 1 is possible.
        sampling_rate (`int`, *optional*, defaults to 16000): rate of the encoder's input in Hz.
        padding_value (`float`, *optional*, defaults to 0.0): value of padded samples.
        normalization (`str`, *optional*, defaults to `"none"`): see `normalize_waveform`; over the real samples of
            each recording.
        min_samples (`int`, *optional*, defaults to 400): samples of one frame of the encoder; shorter recordings are
            an error.
    """

    model_input_names: ClassVar[list[str]] = ["input_values", "attention_mask"]

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16000,
        padding_value: float = 0.0,
        normalization: str = "none",
        min_samples: int = 400,
        **kwargs: Any,
    ) -> None:
        if normalization not in NORMALIZATIONS:
            raise ConfigurationError(
                f"normalization {normalization!r}", hint=f"choose one of {', '.join(NORMALIZATIONS)}"
            )
        kwargs["padding_side"] = "right"
        kwargs.setdefault("return_attention_mask", True)
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.normalization = normalization
        self.min_samples = min_samples

    def waveforms(self, audio: Any, sampling_rate: int | None = None) -> list[NDArray[np.float32]]:
        """Read, mix down, resample, check and normalise.

        Args:
            audio: one recording or a list of them. A recording is an array, a tensor or a list of floating samples; a
                path; bytes; or a `datasets` Audio value. Channels are averaged; an array of shape `(channels, S)` or
                `(S, channels)` counts as one recording inside a list, and as a batch of rows outside.
            sampling_rate (`int`, *optional*): rate of arrays in Hz; files carry their own.

        Returns:
            `list[NDArray[float32]]`: one vector `(S,)` at `self.sampling_rate` per recording.

        Raises:
            AudioError: one of its kinds, naming the position in the list, and the path where there is one.
        """
        items = _as_items(audio)
        if not items:
            raise AudioValueError("the list of recordings is empty", hint="give at least one recording")
        return [self._waveform(item, index, sampling_rate) for index, item in enumerate(items)]

    def _waveform(self, item: Any, index: int, sampling_rate: int | None) -> NDArray[np.float32]:
        name = f"item {index}"
        path = item.get("path") if isinstance(item, Mapping) else item
        if isinstance(path, str | os.PathLike):
            name = f"{name} ({os.fspath(path)})"
        try:
            waveform = load_waveform(item, sampling_rate=sampling_rate, target_rate=self.sampling_rate, name=name)
            check_waveform(waveform, name=name, min_samples=self.min_samples)
        except AudioError as error:
            if str(error).startswith(f"item {index}") or f" {name} " in str(error):
                raise
            raise type(error)(f"item {index}: {error.args[0]}", hint=error.hint) from error
        return normalize_waveform(waveform, self.normalization)

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        padding: bool | str = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Samples for a model with an attached processor.

        Args:
            raw_speech: one recording or a list of them, see `waveforms`.
            sampling_rate (`int`, *optional*): rate of arrays in Hz. Arrays without it are an error.
            padding (`bool | str`, *optional*, defaults to `True`): pad to the longest; see
                `SequenceFeatureExtractor.pad`.
            max_length (`int`, *optional*): samples, with `padding="max_length"` or `truncation`.
            truncation (`bool`, *optional*, defaults to `False`): cut at `max_length`.
            pad_to_multiple_of (`int`, *optional*): round the padded length up.
            return_attention_mask (`bool`, *optional*): the mask tells real samples from padding; leave it on.
            return_tensors (`str`, *optional*): `"pt"` or `"np"`.
            kwargs: ignored, as pipelines pass more than they need.

        Returns:
            `BatchFeature`: `input_values` float32 `(B, S)`, `attention_mask` int `(B, S)`.

        Raises:
            AudioError: see `waveforms`.
        """
        features = BatchFeature({"input_values": self.waveforms(raw_speech, sampling_rate)})
        padded = self.pad(
            features,
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            pad_to_multiple_of=pad_to_multiple_of,
            return_attention_mask=return_attention_mask,
        )
        padded["input_values"] = [np.asarray(row, dtype=np.float32) for row in padded["input_values"]]
        if "attention_mask" in padded:
            padded["attention_mask"] = [np.asarray(row, dtype=np.int64) for row in padded["attention_mask"]]
        return padded.convert_to_tensors(return_tensors) if return_tensors is not None else padded


def _as_items(audio: Any) -> list[Any]:
    """The recordings in `audio`, which is one recording or several."""
    single = isinstance(audio, str | os.PathLike | bytes | bytearray | memoryview | Mapping)
    if single or hasattr(audio, "read"):
        return [audio]
    if hasattr(audio, "ndim"):
        if audio.ndim == 2 and len(audio) == 2:
            warnings.warn(
                "an array of shape (2, S) counts as two recordings; put a stereo recording into a list", stacklevel=4
            )
        return [audio] if audio.ndim < 2 else list(audio)
    if isinstance(audio, Sequence | Iterable):
        items = list(audio)
        if items and all(isinstance(value, int | float | np.number) for value in items):
            return [np.asarray(items)]
        return items
    raise AudioValueError(
        f"{type(audio).__name__} is no recording", hint="give arrays, tensors, paths, bytes or Audio values"
    )
