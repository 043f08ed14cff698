"""The second stream: one prosody code per merged unit, the nearest of a few centroids."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from ..core.digest import sha256_of_json, sha256_of_tensors
from ..core.errors import ConfigurationError, FingerprintMismatchError
from ..core.files import atomic_path
from ..core.locations import reading
from ..core.units import UnitSequence
from .prosody import PitchSettings, prosody_frames
from .prosody_units import PROSODY_FEATURES, PROSODY_SCALES, unit_prosody

__all__ = ["PROSODY_FILE", "ProsodyDescription", "ProsodyQuantizer", "load_prosody_quantizer"]

PROSODY_FILE = "prosody_quantizer.safetensors"

_BLOCK_UNITS = 4096


@dataclass(frozen=True)
class ProsodyDescription:
    """Everything about a prosody quantizer but its centroids; the block `prosody_quantizer` of processor_config.json.

    Attributes:
        num_units (`int`): number of codes K.
        features (`tuple[str, ...]`): `PROSODY_FEATURES`.
        pitch (`dict[str, float]`): the fields of `PitchSettings`.
        digest (`str`): hash of centroids, scales and all of this.
    """

    num_units: int
    features: tuple[str, ...]
    pitch: dict[str, float]
    digest: str

    @classmethod
    def from_dict(cls, values: Any) -> ProsodyDescription:
        """Read the block; keys of later versions are left out.

        Raises:
            ConfigurationError: it is no JSON object, lacks a key, or has a value of another kind.
        """
        names = {item.name for item in fields(cls)}
        kinds = {"num_units": int, "features": list | tuple, "pitch": dict, "digest": str}
        if not isinstance(values, dict) or not all(isinstance(values.get(name), kinds[name]) for name in names):
            raise ConfigurationError(
                f"the block prosody_quantizer is {values!r:.80}, not an object with {', '.join(sorted(names))}",
                hint="processor_config.json must come from SpeechUnitProcessor.save_pretrained",
            )
        known = {name: values[name] for name in names}
        return cls(**{**known, "features": tuple(known["features"])})

    def to_dict(self) -> dict[str, Any]:
        """JSON values that `from_dict` reads back."""
        return {**asdict(self), "features": list(self.features)}


@dataclass(frozen=True, eq=False)
class ProsodyQuantizer:
    """Nearest centroids in the space of `unit_prosody`.

    All arithmetic is NumPy's in float64, one recording at a time: codes depend on no neighbour, padding or device.

    Attributes:
        centroids (`NDArray[float32]` of shape `(K, 6)`): of columns divided by `scales`.
        scales (`NDArray[float32]` of shape `(6,)`): positive.
        pitch (`PitchSettings`): of the pitch tracker.

    Raises:
        ConfigurationError: an array has another shape or impossible values.
    """

    centroids: NDArray[np.float32]
    scales: NDArray[np.float32] = field(default_factory=lambda: np.array(PROSODY_SCALES, dtype=np.float32))
    pitch: PitchSettings = field(default_factory=PitchSettings)

    def __post_init__(self) -> None:
        size = len(PROSODY_FEATURES)
        for name, dimensions in (("centroids", 2), ("scales", 1)):
            array = np.asarray(getattr(self, name))
            good = array.ndim == dimensions and array.shape[-1] == size and 0 not in array.shape
            if not good or not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
                raise ConfigurationError(
                    f"the prosody {name} have shape {array.shape} and dtype {array.dtype}, or are not finite",
                    hint=f"{name} are floating, with {size} columns: {', '.join(PROSODY_FEATURES)}",
                )
            object.__setattr__(self, name, np.ascontiguousarray(array, dtype=np.float32))
        if self.scales.min() <= 0:
            raise ConfigurationError(f"a prosody scale is {self.scales.min()}", hint="scales are above 0")

    @property
    def num_units(self) -> int:
        """Number of codes K."""
        return int(self.centroids.shape[0])

    @property
    def description(self) -> ProsodyDescription:
        """What processor_config.json records."""
        settings = {"features": list(PROSODY_FEATURES), "pitch": asdict(self.pitch)}
        weights = sha256_of_tensors({"centroids": self.centroids, "scales": self.scales})
        digest = sha256_of_json({**settings, "weights": weights})
        return ProsodyDescription(self.num_units, PROSODY_FEATURES, asdict(self.pitch), digest)

    def predict(self, vectors: NDArray[np.floating]) -> NDArray[np.int64]:
        """Codes of units.

        Args:
            vectors (`NDArray[floating]` of shape `(U, 6)`): from `unit_prosody`, not scaled.

        Returns:
            `NDArray[int64]` of shape `(U,)`: 0 … K - 1; of equally near centroids the first.

        Raises:
            ConfigurationError: the vectors have another size.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(PROSODY_FEATURES):
            raise ConfigurationError(f"vectors of shape {vectors.shape} meet {len(PROSODY_FEATURES)} prosody columns")
        scaled = vectors.astype(np.float64) / self.scales
        centroids = self.centroids.astype(np.float64)
        codes = np.empty(len(scaled), dtype=np.int64)
        for start in range(0, len(scaled), _BLOCK_UNITS):
            block = scaled[start : start + _BLOCK_UNITS]
            distances = np.square(block[:, None] - centroids).sum(axis=2)
            codes[start : start + _BLOCK_UNITS] = distances.argmin(axis=1)
        return codes

    def vectors(
        self, waveform: NDArray[np.floating], sequence: UnitSequence, centres: NDArray[np.int64], sampling_rate: int
    ) -> NDArray[np.float64]:
        """`unit_prosody` of one recording; arguments, return value and errors as in `encode`."""
        steps = np.diff(centres)
        hop = float(np.median(steps)) / sampling_rate if steps.size else 0.02
        frames = prosody_frames(waveform, centres, sampling_rate, self.pitch)
        return unit_prosody(frames, sequence.durations, hop)

    def encode(
        self, waveform: NDArray[np.floating], sequence: UnitSequence, centres: NDArray[np.int64], sampling_rate: int
    ) -> NDArray[np.int64]:
        """One code per merged unit of one recording.

        Args:
            waveform (`NDArray[floating]` of shape `(S,)`): real samples only.
            sequence (`UnitSequence` of U units): of this recording.
            centres (`NDArray[int64]` of shape `(T,)`): from `frame_centres`.
            sampling_rate (`int`): in Hz.

        Returns:
            `NDArray[int64]` of shape `(U,)`.

        Raises:
            AudioError: one of its kinds: see `prosody_frames`.
            UnitError: units and frames do not fit.
        """
        return self.predict(self.vectors(waveform, sequence, centres, sampling_rate))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `centroids` and `scales` as safetensors, whole or not at all."""
        with atomic_path(Path(path)) as temporary:
            save_file({"centroids": self.centroids, "scales": self.scales}, temporary)


def load_prosody_quantizer(location: str, recorded: ProsodyDescription, options: dict[str, Any]) -> ProsodyQuantizer:
    """Read `prosody_quantizer.safetensors` of a folder or a Hub repository.

    Args:
        location (`str`): folder or Hub id.
        recorded (`ProsodyDescription`): what processor_config.json says about it.
        options (`dict`): for downloads.

    Raises:
        ConfigurationError: there is no such file, it is damaged, or this version knows other features.
        FingerprintMismatchError: it is not the file that was recorded.
    """
    if recorded.features != PROSODY_FEATURES:
        raise ConfigurationError(
            f"the prosody quantizer of {location} was made on {', '.join(map(str, recorded.features))}; this version "
            f"measures {', '.join(PROSODY_FEATURES)}",
            hint="use the version of speechprompt-hf that made it, or fit a new one",
        )
    try:
        pitch = PitchSettings(**recorded.pitch)
    except TypeError as error:
        raise ConfigurationError(
            f"the block prosody_quantizer of {location} has pitch {recorded.pitch!r:.80}"
        ) from error
    path: Any = Path(location) / PROSODY_FILE
    if not os.path.isdir(location):
        from transformers.utils import cached_file

        with reading(location, ConfigurationError, "the prosody quantizer"):
            path = cached_file(location, PROSODY_FILE, **options)
    elif not path.is_file():
        raise ConfigurationError(
            f"{location} has no {PROSODY_FILE}", hint="copy it there, or fit one with fit_prosody_quantizer"
        )
    with reading(path, ConfigurationError, "the prosody quantizer"), safe_open(path, framework="numpy") as file:
        if {"centroids", "scales"} - set(file.keys()):
            raise ConfigurationError(
                f"{path} holds {sorted(file.keys())}, not centroids and scales", hint="copy or save it again"
            )
        quantizer = ProsodyQuantizer(file.get_tensor("centroids"), file.get_tensor("scales"), pitch)
    if quantizer.description != recorded:
        raise FingerprintMismatchError(
            f"the prosody quantizer of {location} has fingerprint {quantizer.description.digest}, recorded is "
            f"{recorded.digest}",
            hint="use the base and revision that the processor was made with",
        )
    return quantizer
