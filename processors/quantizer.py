"""Nearest centroids: features to units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..core.digest import sha256_of_tensors
from ..core.errors import ConfigurationError
from ..core.files import atomic_path

__all__ = ["QUANTIZER_FILE", "Quantizer"]

QUANTIZER_FILE = "quantizer.safetensors"


class Quantizer:
    """k-means centroids; a unit is the index of the nearest one.

    Distances are computed in float64 (float32 on devices without it), so that the only rounding left is that of the
    features. Of equally near centroids the one with the lowest index wins, as in scikit-learn.

    Args:
        centroids (`Tensor` of shape `(K, F)`, floating): one centroid per unit; kept as float32.
        metadata (`dict[str, str]`, *optional*): what to store beside them: dense model, layer, data, seed.

    Raises:
        ConfigurationError: the centroids have another shape or are not finite.
    """

    def __init__(self, centroids: Any, metadata: dict[str, str] | None = None) -> None:
        tensor = torch.as_tensor(centroids)
        if tensor.ndim != 2 or not tensor.is_floating_point() or 0 in tensor.shape:
            raise ConfigurationError(
                f"centroids have shape {tuple(tensor.shape)} and dtype {tensor.dtype}",
                hint="give a floating array (number of units, feature size)",
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ConfigurationError("centroids hold NaN or infinite values", hint="fit the quantizer again")
        self.centroids = tensor.detach().to(torch.float32).contiguous().clone()
        self.metadata = dict(metadata or {})
        self._prepare()

    def _prepare(self) -> None:
        # MPS has no float64.
        dtype = torch.float32 if self.centroids.device.type == "mps" else torch.float64
        exact = self.centroids.to(dtype)
        self._transposed = exact.T.contiguous()
        self._squared_norms = (exact * exact).sum(dim=1)

    @property
    def num_units(self) -> int:
        """Number of centroids K."""
        return int(self.centroids.shape[0])

    @property
    def feature_size(self) -> int:
        """Feature size F."""
        return int(self.centroids.shape[1])

    @property
    def sha256(self) -> str:
        """Hash of the centroids' float32 values."""
        return sha256_of_tensors({"centroids": self.centroids})

    def to(self, device: Any) -> Quantizer:
        """Move the centroids, in place."""
        self.centroids = self.centroids.to(device)
        self._prepare()
        return self

    def _scores(self, features: Tensor) -> tuple[Tensor, Tensor]:
        if features.shape[-1] != self.feature_size:
            raise ConfigurationError(
                f"features of size {features.shape[-1]} meet centroids of size {self.feature_size}",
                hint="the quantizer was fitted on another encoder or layer",
            )
        exact = features.to(self._transposed.dtype)
        return exact, torch.addmm(self._squared_norms, exact, self._transposed, alpha=-2.0)

    def predict(self, features: Tensor) -> Tensor:
        """Units of features.

        Args:
            features (`Tensor` of shape `(T, F)`, floating): frames.

        Returns:
            `LongTensor` of shape `(T,)`: `argmin_k ||c_k||² - 2 x·c_k`, on the features' device.

        Raises:
            ConfigurationError: the features have another size than the centroids.
        """
        return self._scores(features)[1].argmin(dim=1)

    def predict_with_margins(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Units, and how clear each decision is.

        Returns:
            `tuple[LongTensor, Tensor]`, both of shape `(T,)`: the units; and `(d₂ - d₁) / d₂` of the two smallest
            squared distances, 0 for a tie (infinite if there is one centroid only).
        """
        exact, scores = self._scores(features)
        units = scores.argmin(dim=1)
        if self.num_units == 1:
            return units, torch.full_like(scores[:, 0], float("inf"))
        distances = (exact * exact).sum(dim=1, keepdim=True) + torch.topk(scores, 2, dim=1, largest=False).values
        distances = distances.clamp_min(0)
        second = distances[:, 1].clamp_min(torch.finfo(distances.dtype).tiny)
        return units, (distances[:, 1] - distances[:, 0]) / second

    def save(self, path: str | Path) -> None:
        """Write safetensors: `centroids` float32 `(K, F)` and the metadata."""
        with atomic_path(path) as temporary:
            tensors = {"centroids": self.centroids.cpu().contiguous()}
            save_file(tensors, temporary, metadata=self.metadata or None)

    @classmethod
    def load(cls, path: str | Path) -> Quantizer:
        """Read what `save` wrote.

        Raises:
            ConfigurationError: the file has no tensor `centroids`.
        """
        with safe_open(path, framework="pt") as file:
            if "centroids" not in file.keys():  # noqa: SIM118 - safe_open is no mapping
                raise ConfigurationError(
                    f"{path} holds {sorted(file.keys())}, not 'centroids'",
                    hint="store k-means centres as one float32 tensor named centroids",
                )
            return cls(file.get_tensor("centroids"), file.metadata())
