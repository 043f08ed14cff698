"""Pipelines over recordings, on files without ffmpeg and at any rate, for models of this package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from transformers import AudioClassificationPipeline, AutomaticSpeechRecognitionPipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .core.audio_io import check_waveform, load_waveform
from .core.errors import AdapterError, AudioError, ConfigurationError
from .modeling.speech_purpose import refuse_speech
from .processors.feature_extraction_speech_units import SpeechUnitFeatureExtractor

__all__ = [
    "SpeechPromptAudioClassificationPipeline",
    "SpeechPromptSpeechRecognitionPipeline",
    "register_pipelines",
]

_HTTP = ("http://", "https://")
# An hour of uncompressed mono speech at 32 kHz.
_MAX_DOWNLOAD_BYTES = 256 * 2**20
_REFUSED = {
    "return_timestamps": "no times are known of what the model says",
    "return_language": "the model does not name languages",
    "chunk_length_s": "recordings are read whole: cut long ones yourself",
    "stride_length_s": "recordings are read whole: cut long ones yourself",
    "decoder_kwargs": "there is no CTC decoder: generate_kwargs={'num_beams': 4} searches with beams",
}


class SpeechPromptAudioClassificationPipeline(AudioClassificationPipeline):
    """The stock pipeline, with recordings read by soundfile and resampled by soxr.

    transformers reads paths and bytes with the ffmpeg program and resamples with torchaudio. Pipelines whose feature
    extractor is not ours behave exactly as before. `evaluate.evaluator("audio-classification")` builds this pipeline
    too, so that it works on a column of paths.

    Args:
        model (`PreTrainedModel`): any model of the stock pipeline.
        *args: of `AudioClassificationPipeline`.
        **kwargs: of `AudioClassificationPipeline`.

    Raises:
        AdapterError: the model answers with speech.
    """

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        refuse_speech(model, "this pipeline answers with labels")
        super().__init__(model, *args, **kwargs)

    def preprocess(self, inputs: Any) -> Any:  # type: ignore[override]
        """One recording to `input_values` and `attention_mask`.

        Args:
            inputs (`str | bytes | dict | ndarray | Tensor`): a local path, an address, a file's bytes, `{"array" or
                "raw", "sampling_rate"}`, or samples at the extractor's own rate.

        Raises:
            AudioError: one of its kinds, naming the recording; or an address holds too much.
        """
        extractor = self.feature_extractor
        if not isinstance(extractor, SpeechUnitFeatureExtractor):
            return super().preprocess(inputs)
        return _features(_downloaded(inputs), extractor)


class SpeechPromptSpeechRecognitionPipeline(AutomaticSpeechRecognitionPipeline):
    """The stock pipeline; models of this package that say sequences generate, and their own tokenizer decodes.

    transformers takes a class that it does not know for a CTC model. Recordings for ours are read by soundfile and
    resampled by soxr, whole, without ffmpeg; what the model says by itself is the default (the most probable token
    after another, or what was saved with it), not transformers' five beams. Pipelines of other models behave exactly
    as before.

    Args:
        model (`PreTrainedModel`): `SpeechPromptForSequenceGeneration`, or any model of the stock pipeline.
        *args: of `AutomaticSpeechRecognitionPipeline`.
        **kwargs: of `AutomaticSpeechRecognitionPipeline`; `generate_kwargs`, `batch_size`, `num_workers`.

    Raises:
        AdapterError: the model answers with speech.
        ConfigurationError: an option was given that only other models have: `return_timestamps`, `chunk_length_s`, …
    """

    model: Any

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        refuse_speech(model, "this pipeline answers with texts")
        super().__init__(model, *args, **kwargs)
        if self._says_sequences:
            self.type = "seq2seq"
            self.tokenizer = model.output_tokenizer
            self._generation_defaults: dict[str, Any] = {}

    @property
    def _says_sequences(self) -> bool:
        # Not by its class, of which code that travels may have another copy.
        return bool(getattr(self.model, "says_sequences", False))

    def _sanitize_parameters(self, **options: Any) -> Any:  # type: ignore[override]
        if self._says_sequences:
            given = {name: options.pop(name, None) for name in _REFUSED}
            for name, value in given.items():
                if value:
                    raise ConfigurationError(f"{name} is {value!r}: {_REFUSED[name]}", hint=f"leave {name} out")
        return super()._sanitize_parameters(**options)

    def preprocess(self, inputs: Any, **options: Any) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """One recording to what the model reads, once; of other models possibly in several chunks.

        Args:
            inputs (`str | bytes | dict | ndarray | Tensor`): a local path, an address, a file's bytes, `{"array" or
                "raw", "sampling_rate"}`, or samples at the extractor's own rate.
            **options: of the stock pipeline.

        Raises:
            AudioError: one of its kinds, naming the recording; or an address holds too much.
            ConfigurationError: the feature extractor is another model's.
        """
        if not self._says_sequences:
            yield from super().preprocess(inputs, **options)
            return
        if not isinstance(self.feature_extractor, SpeechUnitFeatureExtractor):
            raise ConfigurationError(
                f"the feature extractor is a {type(self.feature_extractor).__name__}",
                hint="give the model's own: feature_extractor=model.processor.feature_extractor",
            )
        yield {"is_last": True, **_features(_downloaded(inputs), self.feature_extractor)}

    def _forward(self, model_inputs: Any, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        if not self._says_sequences:
            return dict(super()._forward(model_inputs, **options))
        tokens = self.model.generate(
            input_values=model_inputs["input_values"],
            attention_mask=model_inputs["attention_mask"],
            **self._prepare_generate_kwargs(options),
        )
        sequences = tokens["sequences"] if isinstance(tokens, dict) else tokens
        if len(sequences) != len(model_inputs["input_values"]):
            raise ConfigurationError(
                f"{len(sequences)} sequences were said of {len(model_inputs['input_values'])} recording(s)",
                hint="the pipeline gives one text a recording: num_return_sequences=1, or call model.generate",
            )
        return {"is_last": model_inputs["is_last"], "tokens": sequences}

    def postprocess(self, model_outputs: Any, **options: Any) -> Any:  # type: ignore[override]
        """What was said of one recording.

        Args:
            model_outputs (`list[dict]`): one, with `tokens` of shape `(1, K)`; of other models one a chunk.
            **options: of the stock pipeline.

        Returns:
            `dict`: `{"text": …}`.
        """
        if not self._says_sequences:
            return super().postprocess(model_outputs, **options)
        (tokens,) = model_outputs[0]["tokens"]
        return {"text": self.model.output_tokenizer.decode(tokens, skip_special_tokens=True)}

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model; one of this package has its tokenizer and its processor saved beside it.

        Args:
            save_directory (`str | PathLike`): the folder.
            **kwargs: of the model's `save_pretrained`.

        Raises:
            AdapterError: a model of this package has no processor.
        """
        if not self._says_sequences:
            super().save_pretrained(save_directory, **kwargs)
            return
        if self.model.processor is None:
            raise AdapterError(
                "the model has no processor, without which it hears nothing", hint="model.attach_processor(…)"
            )
        self.model.save_pretrained(save_directory, **kwargs)


def register_pipelines() -> None:
    """Let `pipeline` build the classes above for their tasks; calling it twice is harmless."""
    tasks = PIPELINE_REGISTRY.supported_tasks
    tasks["audio-classification"]["impl"] = SpeechPromptAudioClassificationPipeline
    tasks["automatic-speech-recognition"]["impl"] = SpeechPromptSpeechRecognitionPipeline


def _downloaded(inputs: Any) -> Any:
    if not (isinstance(inputs, str) and inputs.startswith(_HTTP)):
        return inputs
    from huggingface_hub.utils import httpx

    content = bytearray()
    with httpx.stream("GET", inputs, follow_redirects=True) as response:
        response.raise_for_status()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > _MAX_DOWNLOAD_BYTES:
                raise AudioError(
                    f"{inputs} is larger than {_MAX_DOWNLOAD_BYTES} bytes", hint="download and cut it yourself"
                )
    return bytes(content)


def _features(inputs: Any, extractor: SpeechUnitFeatureExtractor) -> Any:
    """`input_values` and `attention_mask` of one recording, `(1, S)`, float32."""
    if isinstance(inputs, dict) and "raw" in inputs:
        inputs = {"array": inputs["raw"], "sampling_rate": inputs.get("sampling_rate")}
    rate = extractor.sampling_rate
    path = inputs.get("path") if isinstance(inputs, dict) else inputs
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else "the recording"
    waveform = load_waveform(inputs, sampling_rate=rate, target_rate=rate, name=name)
    check_waveform(waveform, name=name, min_samples=extractor.min_samples)
    # Samples stay float32 whatever the model's precision: rounding them changes units.
    return extractor(waveform, sampling_rate=rate, return_tensors="pt")
