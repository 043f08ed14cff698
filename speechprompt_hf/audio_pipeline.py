"""`pipeline("audio-classification")` on files without ffmpeg and at any rate, for models of this package."""

from __future__ import annotations

import os
from typing import Any

from transformers import AudioClassificationPipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .core.audio_io import check_waveform, load_waveform
from .processors.feature_extraction_speech_units import SpeechUnitFeatureExtractor

__all__ = ["SpeechPromptAudioClassificationPipeline", "register_pipeline"]

_TASK = "audio-classification"


class SpeechPromptAudioClassificationPipeline(AudioClassificationPipeline):
    """The stock pipeline, with recordings read by soundfile and resampled by soxr.

    transformers reads paths and bytes with the ffmpeg program and resamples with torchaudio. Pipelines whose feature
    extractor is not ours behave exactly as before. `evaluate.evaluator("audio-classification")` builds this pipeline
    too, so that it works on a column of paths.
    """

    def preprocess(self, inputs: Any) -> Any:  # type: ignore[override]
        """One recording to `input_values` and `attention_mask`.

        Args:
            inputs (`str | bytes | dict | ndarray | Tensor`): a local path, a file's bytes, `{"array" or "raw",
                "sampling_rate"}`, or samples at the extractor's own rate.

        Raises:
            AudioError: one of its kinds, naming the recording.
        """
        extractor = self.feature_extractor
        is_url = isinstance(inputs, str) and inputs.startswith(("http://", "https://"))
        if is_url or not isinstance(extractor, SpeechUnitFeatureExtractor):
            return super().preprocess(inputs)
        if isinstance(inputs, dict) and "raw" in inputs:
            inputs = {"array": inputs["raw"], "sampling_rate": inputs.get("sampling_rate")}
        rate = extractor.sampling_rate
        path = inputs.get("path") if isinstance(inputs, dict) else inputs
        name = os.fspath(path) if isinstance(path, str | os.PathLike) else "the recording"
        waveform = load_waveform(inputs, sampling_rate=rate, target_rate=rate, name=name)
        check_waveform(waveform, name=name, min_samples=extractor.min_samples)
        # Samples stay float32 whatever the model's precision: rounding them changes units.
        return extractor(waveform, sampling_rate=rate, return_tensors="pt")


def register_pipeline() -> None:
    """Let `pipeline("audio-classification")` build the class above; calling it twice is harmless."""
    PIPELINE_REGISTRY.supported_tasks[_TASK]["impl"] = SpeechPromptAudioClassificationPipeline
