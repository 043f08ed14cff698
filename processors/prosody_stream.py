"""A processor's second stream of units: prosody codes beside the merged units, and their tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..core.digest import sha256_of_json
from ..core.errors import ConfigurationError, UnitError
from ..core.units import UnitSequence
from ..core.vocabulary import PAD_TOKEN_ID, UnitVocabulary
from .prosody_quantizer import ProsodyDescription, ProsodyQuantizer, load_prosody_quantizer
from .prosody_units import frame_centres
from .unit_encoder import UnitEncoder

__all__ = ["ProsodyStream"]


class ProsodyStream:
    """Adds prosody codes to the units of recordings; the quantizer is read when it is first needed.

    Args:
        quantizer (`ProsodyQuantizer | dict`): itself, or its description in processor_config.json.

    Raises:
        ConfigurationError: the description lacks a key.
    """

    def __init__(self, quantizer: ProsodyQuantizer | dict[str, Any]) -> None:
        self._quantizer = quantizer if isinstance(quantizer, ProsodyQuantizer) else None
        # Made in memory: no base holds it.
        self.is_new = self._quantizer is not None
        self.description = (
            quantizer.description
            if isinstance(quantizer, ProsodyQuantizer)
            else ProsodyDescription.from_dict(quantizer)
        )

    @property
    def vocabulary(self) -> UnitVocabulary:
        """Token ids of the codes: code + 4, after the same four special tokens as in the first stream."""
        return UnitVocabulary.from_num_units(self.description.num_units)

    def load(self, encoder: UnitEncoder) -> ProsodyQuantizer:
        """The quantizer, from beside the encoder's weights.

        Args:
            encoder (`UnitEncoder`): whose units the codes stand beside.

        Raises:
            ConfigurationError: the file is missing or damaged.
            FingerprintMismatchError: it is not the one that was recorded.
        """
        if self._quantizer is None:
            location, options = encoder.weights_place()
            self._quantizer = load_prosody_quantizer(location, self.description, options)
        return self._quantizer

    def add_to(
        self, sequences: Sequence[UnitSequence], rows: Iterable[Any], encoder: UnitEncoder
    ) -> list[UnitSequence]:
        """Units with codes, each recording's made on the CPU from its own samples alone.

        Args:
            sequences (`Sequence[UnitSequence]` of length B): from `encoder`.
            rows (`Iterable` of B vectors `(S,)`): the samples that they were made of, without padding.
            encoder (`UnitEncoder`): what made them.

        Raises:
            AudioError: one of its kinds: a row has impossible samples.
        """
        quantizer = self.load(encoder)
        rate, chunk = encoder.description.sampling_rate, encoder.description.chunk_samples
        result = []
        for sequence, row in zip(sequences, rows, strict=True):
            wave: np.ndarray = torch.as_tensor(row).detach().to("cpu", torch.float32).numpy()
            centres = frame_centres(len(wave), encoder.dense_model.geometry, chunk)
            result.append(replace(sequence, prosody=quantizer.encode(wave, sequence, centres, rate)))
        return result

    def token_rows(self, codes: Iterable[Any], input_ids: Sequence[Sequence[int]], width: int) -> list[list[int]]:
        """Tokens laid out as `input_ids`: `[2, code + 4…, 0]`, padded on the right with 1.

        Args:
            codes (`Iterable` of B rows): codes, one a unit.
            input_ids (`Sequence` of B rows): of the first stream, not padded.
            width (`int`): tokens of a padded row; 0 for no padding.

        Raises:
            UnitError: a code is not in the vocabulary, or a row has more or fewer codes than units.
        """
        vocabulary = self.vocabulary
        rows = [vocabulary.input_ids(row) for row in codes]
        if [len(row) for row in rows] != [len(row) for row in input_ids]:
            raise UnitError(
                f"rows of {[len(row) - 2 for row in input_ids]} units came with rows of "
                f"{[len(row) - 2 for row in rows]} prosody codes",
                hint="give one code a unit",
            )
        return [row + [PAD_TOKEN_ID] * (width - len(row)) for row in rows]

    def fingerprint(self, of_units: dict[str, Any]) -> dict[str, Any]:
        """What is added to the fingerprint of the units: `prosody_digest`, and `streams_digest` of both streams."""
        mine = self.description.digest
        return {"prosody_digest": mine, "streams_digest": sha256_of_json([of_units["digest"], mine])}


def require_stream(stream: ProsodyStream | None) -> ProsodyStream:
    """The stream, where codes were given.

    Raises:
        ConfigurationError: there is none.
    """
    if stream is None:
        raise ConfigurationError(
            "prosody codes were given to a processor without a prosody quantizer",
            hint="leave them out, or use the processor that made them",
        )
    return stream
