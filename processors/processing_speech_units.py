"""The processor of a unit language model: recordings to units to `input_ids`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import BatchFeature, ProcessorMixin

from ..core.embedded import embedded_name, resolve_base
from ..core.errors import ConfigurationError
from ..core.locations import check_is_there, reading
from ..core.units import UnitSequence
from .feature_extraction_speech_units import SpeechUnitFeatureExtractor
from .loading import check_processor_config
from .prosody_quantizer import PROSODY_FILE, ProsodyQuantizer
from .prosody_stream import ProsodyStream, require_stream
from .tokenization_units import UnitTokenizer
from .unit_encoder import BESIDE_ME, UnitEncoder, UnitEncoderDescription

__all__ = ["SpeechUnitProcessor"]


class SpeechUnitProcessor(ProcessorMixin):
    """Feature extractor, unit encoder and unit tokenizer in one.

    Args:
        feature_extractor (`SpeechUnitFeatureExtractor`): recordings to samples.
        tokenizer (`UnitTokenizer`): units to tokens.
        unit_encoder (`UnitEncoder | dict`): samples to units, or its description.
        prosody_quantizer (`ProsodyQuantizer | dict`, *optional*): makes a second stream of units, or its description.
            Without it there is none, and nothing else changes.
        interleaved (`bool`, *optional*): whether its codes stand between the units, see `ProsodyStream`.

    Raises:
        ConfigurationError: the parts do not fit together.

    Example:
        `processor([wave], sampling_rate=16000, padding=True, return_tensors="pt")` holds `input_ids` and
        `attention_mask`.
    """

    def __init__(
        self,
        feature_extractor: SpeechUnitFeatureExtractor,
        tokenizer: UnitTokenizer,
        unit_encoder: UnitEncoder | UnitEncoderDescription | dict[str, Any] | None = None,
        prosody_quantizer: ProsodyQuantizer | dict[str, Any] | None = None,
        interleaved: bool | None = None,
    ) -> None:
        super().__init__(feature_extractor, tokenizer)
        if unit_encoder is None:
            raise ConfigurationError(
                "a speech unit processor needs a unit encoder",
                hint="load a saved one with from_pretrained, or use SpeechUnitProcessor.from_unit_encoder",
            )
        self.unit_encoder = unit_encoder if isinstance(unit_encoder, UnitEncoder) else UnitEncoder(unit_encoder)
        self.prosody = None if prosody_quantizer is None else ProsodyStream(prosody_quantizer, interleaved)
        # How a saved adapter shall name the base that this processor was loaded from.
        self.base_source: str | None = None
        self._check_parts()

    def _check_parts(self) -> None:
        description = self.unit_encoder.description
        num_marks = self.prosody.num_marks if self.prosody else 0
        num_units = None if description.num_units is None else description.num_units + num_marks
        pairs = {
            "normalization": (self.feature_extractor.normalization, description.normalization),
            "sampling_rate": (self.feature_extractor.sampling_rate, description.sampling_rate),
            "min_samples": (self.feature_extractor.min_samples, description.min_samples),
            "number of units": (self.tokenizer.vocabulary.num_units, num_units),
        }
        for name, (outer, inner) in pairs.items():
            if inner is not None and outer != inner:
                raise ConfigurationError(
                    f"{name} is {outer!r} in the feature extractor or tokenizer and {inner!r} in the unit encoder",
                    hint="SpeechUnitProcessor.from_unit_encoder makes parts that fit",
                )

    @classmethod
    def from_unit_encoder(
        cls,
        unit_encoder: UnitEncoder,
        tokenizer: UnitTokenizer | None = None,
        prosody_quantizer: ProsodyQuantizer | None = None,
        *,
        interleaved: bool = False,
    ) -> SpeechUnitProcessor:
        """A processor around a unit encoder.

        Args:
            unit_encoder (`UnitEncoder`): samples to units.
            tokenizer (`UnitTokenizer`, *optional*): numeric order of the units by default.
            prosody_quantizer (`ProsodyQuantizer`, *optional*): makes a second stream of units.
            interleaved (`bool`, *optional*, defaults to `False`): its codes stand between the units, as further units
                of one vocabulary, so that a language model of one stream reads both; see `interleave`.
        """
        feature_extractor = SpeechUnitFeatureExtractor(
            sampling_rate=unit_encoder.description.sampling_rate,
            normalization=unit_encoder.description.normalization,
            min_samples=unit_encoder.min_samples,
        )
        num_marks = prosody_quantizer.num_units if prosody_quantizer and interleaved else 0
        tokenizer = tokenizer or UnitTokenizer.from_num_units(unit_encoder.num_units + num_marks)
        return cls(feature_extractor, tokenizer, unit_encoder, prosody_quantizer, interleaved)

    # Encoding

    def __call__(
        self,
        audio: Any = None,
        text: Any = None,
        *,
        sampling_rate: int | None = None,
        padding: bool = True,
        return_tensors: str | None = None,
        return_units: bool = False,
        **kwargs: Any,
    ) -> BatchFeature:
        """Recordings to model inputs.

        Args:
            audio: one recording or a list of them, in any form that `SpeechUnitFeatureExtractor.waveforms` takes.
            text (`str | list[str]`, *optional*): units as text, instead of audio; goes to the tokenizer.
            sampling_rate (`int`, *optional*): rate of arrays in Hz; arrays without it are an error.
            padding (`bool`, *optional*, defaults to `True`): pad to the longest row.
            return_tensors (`str`, *optional*): `"pt"` or `"np"`.
            return_units (`bool`, *optional*, defaults to `False`): also return lists with one int64 vector a row:
                `units` (merged), `durations` (frames per unit) and `frame_units` (one per frame), and with a second
                stream `prosody` (one code per unit).
            kwargs: for the tokenizer, with `text`.

        Returns:
            `BatchFeature`: `input_ids` and `attention_mask`, integers of shape `(B, N)`; with a second stream also
            `prosody_ids` of the same shape and layout.

        Raises:
            AudioError: one of its kinds, naming the recording.
            ConfigurationError: both audio and text were given, or neither.
        """
        if (audio is None) == (text is None):
            raise ConfigurationError("give either audio or text", hint="processor([wave], sampling_rate=16000)")
        if text is not None:
            return self.tokenizer(text, padding=padding, return_tensors=return_tensors, **kwargs)
        sequences = self.encode_units(audio, sampling_rate=sampling_rate)
        features = self.prepare_units(
            [sequence.units for sequence in sequences],
            prosody=[sequence.prosody for sequence in sequences] if self._has_prosody_ids else None,
            padding=padding,
            return_tensors=return_tensors,
        )
        if return_units:
            features["units"] = [sequence.units for sequence in sequences]
            features["durations"] = [sequence.durations for sequence in sequences]
            features["frame_units"] = [sequence.frames for sequence in sequences]
            if self._has_prosody_ids:
                features["prosody"] = [sequence.prosody for sequence in sequences]
        return features

    def encode_units(self, audio: Any, *, sampling_rate: int | None = None) -> list[UnitSequence]:
        """Units of recordings, identical to encoding each alone.

        Args:
            audio: one recording or a list of them.
            sampling_rate (`int`, *optional*): rate of arrays in Hz.
        """
        waves = self.feature_extractor.waveforms(audio, sampling_rate)
        sequences = self.unit_encoder.encode(waves)
        return self.prosody.add_to(sequences, waves, self.unit_encoder) if self.prosody else sequences

    def units_from_values(self, input_values: Any, attention_mask: Any = None) -> list[UnitSequence]:
        """Units of what the feature extractor returned.

        Args:
            input_values (`Tensor` of shape `(B, S)`, floating): normalised samples, zero-padded on the right.
            attention_mask (`LongTensor` of shape `(B, S)`, *optional*): 1 for real samples; all are real by default.
        """
        counts = None if attention_mask is None else attention_mask.sum(-1).tolist()
        sequences = self.unit_encoder.encode(input_values, counts)
        if self.prosody is None:
            return sequences
        rows = input_values if counts is None else [row[:n] for row, n in zip(input_values, counts, strict=True)]
        return self.prosody.add_to(sequences, rows, self.unit_encoder)

    def prepare_units(
        self,
        units: Iterable[Any],
        *,
        prosody: Iterable[Any] | None = None,
        padding: bool = True,
        return_tensors: str | None = "pt",
    ) -> BatchFeature:
        """Model inputs of merged units: `[2, tokens…, 0]`, padded on the right with 1.

        Args:
            units (`list` of B rows of units): without equal neighbours.
            prosody (`list` of B rows of prosody codes, *optional*): one code a unit.
            padding (`bool`, *optional*, defaults to `True`): pad to the longest row.
            return_tensors (`str`, *optional*, defaults to `"pt"`): `"pt"`, `"np"` or `None` for lists.

        Returns:
            `BatchFeature`: `input_ids`, `attention_mask` of shape `(B, N)`, and with `prosody` also `prosody_ids`,
            laid out as `input_ids` in the tokens of `prosody.vocabulary`.

        Raises:
            UnitError: a unit or a code is not in its vocabulary, or a row has more or fewer codes than units.
            ConfigurationError: `prosody` was given and this processor makes no second stream.
        """
        rows = [self.tokenizer.input_ids(row) for row in units]
        longest = max(map(len, rows), default=0) if padding else 0
        pad = self.tokenizer.pad_token_id
        features = {
            "input_ids": [row + [pad] * (longest - len(row)) for row in rows],
            "attention_mask": [[1] * len(row) + [0] * (longest - len(row)) for row in rows],
        }
        if prosody is not None:
            features["prosody_ids"] = require_stream(self.prosody).token_rows(prosody, rows, longest)
        return BatchFeature(features, tensor_type=return_tensors)

    def decode(self, token_ids: Any, **kwargs: Any) -> str:
        """Tokens as text, see `UnitTokenizer.decode`."""
        return self.tokenizer.decode(token_ids, **kwargs)

    def batch_decode(self, token_ids: Any, **kwargs: Any) -> list[str]:
        """Rows of tokens as text."""
        return self.tokenizer.batch_decode(token_ids, **kwargs)

    def to(self, device: Any) -> SpeechUnitProcessor:
        """Make units on this device, in place."""
        self.unit_encoder.to(device)
        return self

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What makes these units: see `UnitEncoder.fingerprint`.

        `digest` is that of the first stream, so that language models of it go on reading these units. With a second
        stream `prosody_digest` is that of its quantizer, and `streams_digest` that of both. Of interleaved streams
        `digest` is that of both, and `units_digest` that of the units alone.
        """
        fingerprint = self.unit_encoder.fingerprint
        return {**fingerprint, **self.prosody.fingerprint(fingerprint)} if self.prosody else fingerprint

    @property
    def model_input_names(self) -> list[str]:
        """Names of what `__call__` returns."""
        return ["input_ids", "attention_mask", *(["prosody_ids"] if self._has_prosody_ids else [])]

    @property
    def _has_prosody_ids(self) -> bool:
        return self.prosody is not None and not self.prosody.interleaved

    # Files

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str = "main",
        **kwargs: Any,
    ) -> SpeechUnitProcessor:
        """Load a base's or an adapter's processor.

        Encoder and centroids are read when they are first used, from beside this processor or from the base that it
        names, and must then have the recorded fingerprint.

        Args:
            pretrained_model_name_or_path (`str`): folder, Hub id, or the name of an embedded base.
            cache_dir (`str`, *optional*): where downloads are kept.
            force_download (`bool`, *optional*, defaults to `False`): download again.
            local_files_only (`bool`, *optional*, defaults to `False`): use only what was downloaded before.
            token (`str | bool`, *optional*): for private repositories.
            revision (`str`, *optional*, defaults to `"main"`): branch, tag or commit.
            kwargs: as for any processor of transformers.

        Raises:
            ConfigurationError: there is no such folder or repository, no processor in it, or a damaged one.
        """
        name = os.fspath(pretrained_model_name_or_path)
        location = resolve_base(name)
        options: dict[str, Any] = {
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token,
        }
        where = {"revision": revision, **options}
        check_is_there(location, ConfigurationError, "the processor", "processor_config.json", **where)
        with reading(location, ConfigurationError, "the processor"):
            check_processor_config(location)
            processor = super().from_pretrained(location, revision=revision, **options, **kwargs)
        encoder = processor.unit_encoder
        encoder.location = location
        is_pinned = encoder.description.source == BESIDE_ME and revision != "main" and not os.path.isdir(location)
        encoder.location_revision = revision if is_pinned else None
        encoder.hub_options = {key: value for key, value in options.items() if value}
        if encoder.description.source != BESIDE_ME:
            processor.base_source = encoder.description.source
        else:
            processor.base_source = _public_name(location)
        return processor

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: Any, processor_dict: Any = None, **kwargs: Any
    ) -> list[Any]:
        # Our own classes, whatever model config lies beside them or is missing.
        return [
            SpeechUnitFeatureExtractor.from_pretrained(pretrained_model_name_or_path, **kwargs),
            UnitTokenizer.from_pretrained(pretrained_model_name_or_path, **kwargs),
        ]

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        push_to_hub: bool = False,
        *,
        save_encoder: bool | None = None,
        base_source: str | None = None,
        base_revision: str | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Write processor_config.json, tokenizer files and, for a base, encoder and centroids.

        Args:
            save_directory (`str | PathLike`): folder.
            push_to_hub (`bool`, *optional*, defaults to `False`): upload it too.
            save_encoder (`bool`, *optional*): whether to write `encoder/`, `quantizer.safetensors` and, for a second
                stream, `prosody_quantizer.safetensors`. By default they are written unless the processor came from a
                base with a public name, which then is named instead, and its second stream too.
            base_source (`str`, *optional*): Hub id or embedded name of the base to name; implies `save_encoder=False`.
            base_revision (`str`, *optional*): its revision.
            kwargs: `repo_id`, `commit_message`, `token`, … for the upload.

        Returns:
            `list[str]`: the path of processor_config.json.

        Raises:
            ConfigurationError: nothing would say where the encoder is.
        """
        encoder = self.unit_encoder
        _ = encoder.fingerprint  # known before it is written
        description = encoder.description
        is_new = self.prosody is not None and self.prosody.is_new
        if base_source is None and save_encoder is not True and not is_new:
            base_source = self.base_source
            base_revision = base_revision or description.revision or encoder.location_revision
        if save_encoder is None:
            save_encoder = base_source is None
        second = self.prosody.load(encoder) if save_encoder and self.prosody else None
        if save_encoder:
            encoder.load()
            saved = replace(encoder.description, source=BESIDE_ME, revision=None)
        elif base_source is None:
            raise ConfigurationError(
                "save_encoder=False without a base that holds the encoder",
                hint="pass base_source, the base's Hub id or embedded name",
            )
        else:
            saved = replace(description, source=base_source, revision=base_revision)
        if push_to_hub:
            os.makedirs(save_directory, exist_ok=True)
            before = self._get_files_timestamps(save_directory)
        if save_encoder:
            encoder.save(save_directory)
            if second is not None:
                second.save(Path(save_directory) / PROSODY_FILE)
        original, encoder.description = encoder.description, saved
        try:
            files = super().save_pretrained(save_directory, push_to_hub=False)
        finally:
            encoder.description = original
        if push_to_hub:
            self._upload(save_directory, before, **kwargs)
        return files

    def _upload(self, folder: str | os.PathLike[str], before: dict[str, float], **options: Any) -> None:
        from huggingface_hub import HfApi

        message = options.pop("commit_message", None)
        repo_id = options.pop("repo_id", Path(folder).name)
        api = HfApi(token=options.get("token"))
        repo_id = api.create_repo(repo_id, exist_ok=True, private=options.get("private")).repo_id
        self._upload_modified_files(folder, repo_id, before, commit_message=message, token=options.get("token"))

    def to_dict(self) -> dict[str, Any]:
        """The content of processor_config.json."""
        shell = object.__new__(type(self))
        # Without the weights: ProcessorMixin copies every attribute deeply.
        hidden = ("unit_encoder", "base_source", "prosody")
        shell.__dict__.update({key: value for key, value in self.__dict__.items() if key not in hidden})
        output = ProcessorMixin.to_dict(shell)
        output["unit_encoder"] = self.unit_encoder.description.to_dict()
        if self.prosody:
            output["prosody_quantizer"] = self.prosody.to_dict()
        return output


def _public_name(location: str) -> str | None:
    """How others can refer to the place a base was loaded from; `None` for a private folder."""
    return embedded_name(location) or (None if os.path.isdir(location) else location)
