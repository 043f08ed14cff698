"""Waveforms to units: dense model, quantizer, chunks and batches, with a fingerprint of everything."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.digest import sha256_of_json
from ..core.embedded import resolve_base
from ..core.errors import AudioTooShortError, ConfigurationError, FingerprintMismatchError
from ..core.units import UnitSequence
from .chunking import UPSTREAM_CHUNK_SAMPLES, group_by_length, split_into_chunks
from .dense_model import DenseModel
from .feature_extraction_speech_units import NORMALIZATIONS
from .loading import dense_model_from, load_dense_model, load_quantizer
from .precision import full_precision
from .quantizer import QUANTIZER_FILE, Quantizer

__all__ = ["BESIDE_ME", "ENCODER_FOLDER", "UnitEncoder", "UnitEncoderDescription"]

ENCODER_FOLDER = "encoder"
BESIDE_ME = "."


@dataclass(frozen=True)
class UnitEncoderDescription:
    """Everything about a unit encoder but its weights; the block `unit_encoder` of processor_config.json.

    Attributes:
        layer (`int`): index into the encoder's hidden states; 0 is the input of its first layer.
        normalization (`str`): how the encoder's input is scaled, one of `NORMALIZATIONS`.
        source (`str`, defaults to `"."`): where encoder and centroids are: `"."` beside this file, else a base's id.
        revision (`str`, *optional*): the base's revision.
        encoder_id (`str`, defaults to `"unnamed"`): name of the encoder that the weights come from.
        chunk_samples (`int`, defaults to 1 600 000): longer recordings are cut into chunks of this length.
        sampling_rate (`int`, defaults to 16000): rate of the encoder's input in Hz.
        num_units (`int`, *optional*): number of centroids K.
        min_samples (`int`, *optional*): samples of one frame.
        hop_samples (`int`, *optional*): samples from frame to frame.
        fingerprint (`dict[str, str]`, *optional*): recorded hashes, checked when the weights are loaded.
    """

    layer: int
    normalization: str
    source: str = BESIDE_ME
    revision: str | None = None
    encoder_id: str = "unnamed"
    chunk_samples: int = UPSTREAM_CHUNK_SAMPLES
    sampling_rate: int = 16000
    num_units: int | None = None
    min_samples: int | None = None
    hop_samples: int | None = None
    fingerprint: dict[str, Any] | None = field(default=None)

    def __post_init__(self) -> None:
        if self.normalization not in NORMALIZATIONS:
            raise ConfigurationError(
                f"normalization {self.normalization!r}", hint=f"choose one of {', '.join(NORMALIZATIONS)}"
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> UnitEncoderDescription:
        """Read the block `unit_encoder`; keys of later versions are left out.

        Raises:
            ConfigurationError: `layer` or `normalization` is missing.
        """
        known = {item.name for item in fields(cls)}
        try:
            return cls(**{key: value for key, value in values.items() if key in known})
        except TypeError as error:
            raise ConfigurationError(
                f"the block unit_encoder holds {sorted(values)}: {error}",
                hint="processor_config.json must come from SpeechUnitProcessor.save_pretrained",
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """JSON values that `from_dict` reads back."""
        return asdict(self)


class UnitEncoder:
    """Turns waveforms into units, the same ones in any batch.

    Weights are read when they are first needed; then the recorded fingerprint is checked.

    Args:
        description (`UnitEncoderDescription | dict`): what the encoder is.
        location (`str`, *optional*): folder or Hub id that holds `encoder/` and `quantizer.safetensors`.
        dense_model (`DenseModel`, *optional*): the encoder, if it is in memory already.
        quantizer (`Quantizer`, *optional*): the centroids, if they are in memory already.
        hub_options (`dict`, *optional*): `token`, `cache_dir`, … for downloads.
    """

    def __init__(
        self,
        description: UnitEncoderDescription | dict[str, Any],
        *,
        location: str | None = None,
        dense_model: DenseModel | None = None,
        quantizer: Quantizer | None = None,
        hub_options: dict[str, Any] | None = None,
    ) -> None:
        if isinstance(description, dict):
            description = UnitEncoderDescription.from_dict(description)
        self.description = description
        self.location = location
        self.location_revision: str | None = None
        self.hub_options = dict(hub_options or {})
        # Padded samples in one batch; None lets the device decide.
        self.batch_samples: int | None = None
        self._device = torch.device("cpu")
        self._dense_model = dense_model
        self._quantizer = quantizer
        if dense_model is not None and quantizer is not None:
            self.description = self._completed_description(dense_model, quantizer)

    @classmethod
    def from_model(
        cls,
        model: Any,
        centroids: Any,
        *,
        layer: int,
        normalization: str,
        encoder_id: str = "unnamed",
        chunk_samples: int | None = None,
    ) -> UnitEncoder:
        """A unit encoder of a model in memory.

        Args:
            model (`PreTrainedModel | DenseModel | str`): a speech encoder of transformers, or a name that `AutoModel`
                loads. Its weights are shared, not copied.
            centroids (`Tensor | ndarray | Quantizer` of shape `(K, F)`): k-means centres of that layer's features.
            layer (`int`): index into `hidden_states`.
            normalization (`str`): how its input was scaled in training.
            encoder_id (`str`, defaults to `"unnamed"`): what the fingerprint calls it.
            chunk_samples (`int`, *optional*): samples of a chunk; upstream's 1 600 000, or a window of Whisper.

        Raises:
            ConfigurationError: layer, normalization or sizes do not fit.
        """
        dense_model = dense_model_from(model, layer)
        quantizer = centroids if isinstance(centroids, Quantizer) else Quantizer(centroids)
        limit = dense_model.max_chunk_samples
        chunk = chunk_samples or (limit if limit is not None else UPSTREAM_CHUNK_SAMPLES)
        if limit is not None and chunk > limit:
            raise ConfigurationError(
                f"chunks of {chunk} samples for an encoder that reads {limit} at once",
                hint=f"set chunk_samples to at most {limit}",
            )
        description = UnitEncoderDescription(
            layer=layer, normalization=normalization, encoder_id=encoder_id, chunk_samples=chunk
        )
        return cls(description, dense_model=dense_model, quantizer=quantizer)

    # Loading

    def load(self) -> UnitEncoder:
        """Read encoder and centroids now, and check the fingerprint.

        Raises:
            FingerprintMismatchError: the files are not those that were recorded.
            ConfigurationError: there is nothing to read, or the parts do not fit.
        """
        if self._dense_model is not None and self._quantizer is not None:
            return self
        location, options = self.weights_place()
        quantizer = load_quantizer(location, QUANTIZER_FILE, options)
        dense_model = load_dense_model(location, ENCODER_FOLDER, self.description.layer, options)
        # Nothing is kept of what fails the check.
        self.description = self._completed_description(dense_model, quantizer)
        self._dense_model, self._quantizer = dense_model, quantizer
        return self.to(self._device)

    def weights_place(self) -> tuple[str, dict[str, Any]]:
        """Folder or Hub id of the base that holds the weights, and options for downloads from there.

        Raises:
            ConfigurationError: no place is known.
        """
        source = self.description.source
        location = self.location if source == BESIDE_ME else source
        if location is None:
            raise ConfigurationError(
                "this unit encoder has neither weights nor a place to read them from",
                hint="load the processor with from_pretrained",
            )
        location = resolve_base(location)
        if os.path.isdir(location):
            return location, {}
        options = {"revision": self.location_revision, **self.hub_options}
        if source != BESIDE_ME:
            options["revision"] = self.description.revision
        return location, options

    def _completed_description(self, dense_model: DenseModel, quantizer: Quantizer) -> UnitEncoderDescription:
        if dense_model.feature_size != quantizer.feature_size:
            raise ConfigurationError(
                f"the encoder's features have size {dense_model.feature_size}, the centroids {quantizer.feature_size}",
                hint="the quantizer was fitted on another encoder",
            )
        recorded = self.description.fingerprint
        computed = {
            "encoder_id": self.description.encoder_id,
            "layer": self.description.layer,
            "normalization": self.description.normalization,
            "chunk_samples": self.description.chunk_samples,
            "encoder_sha256": dense_model.sha256,
            "centroids_sha256": quantizer.sha256,
        }
        # Names do not enter the digest: the same weights under another name give the same units.
        computed["digest"] = sha256_of_json({k: v for k, v in computed.items() if k != "encoder_id"})
        if recorded is not None and recorded.get("digest") != computed["digest"]:
            raise FingerprintMismatchError(
                f"the units of {self.location or self.description.source} have fingerprint {computed['digest']}, "
                f"recorded is {recorded.get('digest')}",
                hint="encoder, centroids, layer, normalization or chunk length differ; use the base and revision that "
                "the processor was made with",
            )
        return replace(
            self.description,
            num_units=quantizer.num_units,
            min_samples=dense_model.geometry.min_samples,
            hop_samples=dense_model.geometry.hop_samples,
            fingerprint=computed,
        )

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._dense_model is not None and self._quantizer is not None

    @property
    def dense_model(self) -> DenseModel:
        """The encoder up to `layer`; loads it."""
        self.load()
        assert self._dense_model is not None
        return self._dense_model

    @property
    def quantizer(self) -> Quantizer:
        """The centroids; loads them."""
        self.load()
        assert self._quantizer is not None
        return self._quantizer

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Encoder, layer, normalization, hashes of weights and centroids, and their `digest`."""
        if self.description.fingerprint is None:
            self.load()
        assert self.description.fingerprint is not None
        return {**self.description.fingerprint, "revision": self.description.revision}

    @property
    def num_units(self) -> int:
        """Number of units K."""
        return self.description.num_units or self.quantizer.num_units

    @property
    def min_samples(self) -> int:
        """Samples of one frame."""
        return self.description.min_samples or self.dense_model.geometry.min_samples

    @property
    def hop_samples(self) -> int:
        """Samples from frame to frame."""
        return self.description.hop_samples or self.dense_model.geometry.hop_samples

    @property
    def device(self) -> torch.device:
        """Where units are made."""
        return self._device

    def to(self, device: Any) -> UnitEncoder:
        """Make units on this device; features stay float32 whatever the models around it use."""
        self._device = torch.device(device)
        if self._dense_model is not None and self._dense_model.device != self._device:
            self._dense_model.to(self._device)
        if self._quantizer is not None and self._quantizer.centroids.device != self._device:
            self._quantizer.to(self._device)
        return self

    def num_frames(self, num_samples: int) -> int:
        """Frames T of a recording of `num_samples` samples, chunked as this encoder does it."""
        geometry = self.dense_model.geometry
        chunks = split_into_chunks(num_samples, self.description.chunk_samples, geometry.min_samples)
        return geometry.num_frames_of_chunks(chunks)

    # Encoding

    def features(self, input_values: Any, num_samples: Any = None) -> list[Tensor]:
        """Hidden states of every row: float32 of shape `(T, F)`, on the encoder's device.

        Args:
            input_values (`Tensor` of shape `(B, S)`, or list of B vectors): samples at `sampling_rate`, **normalised**
                as `SpeechUnitFeatureExtractor` does it.
            num_samples (`LongTensor` of shape `(B,)`, *optional*): real samples of each row; all by default.

        Raises:
            AudioTooShortError: a row has less than one frame.
        """
        rows = self._as_rows(input_values, num_samples)
        pieces: list[dict[int, Tensor]] = [{} for _ in rows]
        for row, start, features in self._chunk_features(rows):
            pieces[row][start] = features
        return [torch.cat([chunks[start] for start in sorted(chunks)]) for chunks in pieces]

    def encode_frames(self, input_values: Any, num_samples: Any = None) -> list[NDArray[np.int64]]:
        """One unit per frame: per row, int64 of shape `(T,)`. Arguments and errors as in `features`."""
        quantizer = self.quantizer
        rows = self._as_rows(input_values, num_samples)
        pieces: list[dict[int, NDArray[np.int64]]] = [{} for _ in rows]
        for row, start, features in self._chunk_features(rows):
            with full_precision(self._device):
                pieces[row][start] = quantizer.predict(features).cpu().numpy()
        return [np.concatenate([chunks[start] for start in sorted(chunks)]) for chunks in pieces]

    def encode(self, input_values: Any, num_samples: Any = None) -> list[UnitSequence]:
        """Units of each row, identical to encoding the row alone. Arguments and errors as in `features`."""
        return [UnitSequence.from_frames(frames) for frames in self.encode_frames(input_values, num_samples)]

    def _as_rows(self, input_values: Any, num_samples: Any) -> list[Tensor]:
        rows = [torch.as_tensor(row) for row in input_values]
        if num_samples is not None:
            counts = [int(count) for count in num_samples]
            if len(counts) != len(rows):
                raise ConfigurationError(f"{len(rows)} rows came with {len(counts)} numbers of samples")
            rows = [row[:count] for row, count in zip(rows, counts, strict=True)]
        for index, row in enumerate(rows):
            if row.ndim != 1 or row.shape[0] < self.min_samples:
                raise AudioTooShortError(
                    f"item {index} has samples of shape {tuple(row.shape)}, one frame needs {self.min_samples}",
                    hint="leave it out or record it again",
                )
        return rows

    def _chunk_features(self, rows: Sequence[Tensor]) -> Iterator[tuple[int, int, Tensor]]:
        """Yield (row, first sample of the chunk, features); chunks of similar length share a batch."""
        dense_model = self.dense_model
        chunk_samples = self.description.chunk_samples
        chunks = [
            (row, start, stop)
            for row, values in enumerate(rows)
            for start, stop in split_into_chunks(len(values), chunk_samples, self.min_samples)
        ]
        lengths = [stop - start for _, start, stop in chunks]
        budget = self.batch_samples or (320_000 if self._device.type == "cpu" else 8_000_000)
        for group in group_by_length(lengths, max_padded_samples=budget):
            batch = []
            for index in group:
                row, start, stop = chunks[index]
                batch.append(rows[row][start:stop].to(self._device, torch.float32))
            with full_precision(self._device):
                features = dense_model.extract(batch)
            for index, states in zip(group, features, strict=True):
                yield chunks[index][0], chunks[index][1], states

    # Saving

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `encoder/` and `quantizer.safetensors`."""
        self.dense_model.save(Path(folder) / ENCODER_FOLDER)
        self.quantizer.save(Path(folder) / QUANTIZER_FILE)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out weights that can be read again, so that copies for worker processes are small."""
        state = dict(self.__dict__)
        if self.location is not None or self.description.source != BESIDE_ME:
            state["_dense_model"] = state["_quantizer"] = None
        return state
