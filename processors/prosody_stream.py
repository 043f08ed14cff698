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

__all__ = ["ProsodyStream", "interleave", "require_stream", "separate"]


_INTERLEAVED = "interleaved"


class ProsodyStream:
    """Adds prosody codes to the units of recordings; the quantizer is read when it is first needed.

    Args:
        quantizer (`ProsodyQuantizer | dict`): itself, or its description in processor_config.json.
        interleaved (`bool`, *optional*): whether codes stand between the units, in one row and one vocabulary, as
            `interleave` says, instead of beside them; the description says it by default.

    Raises:
        ConfigurationError: the description lacks a key, or has a value of another kind.
    """

    def __init__(self, quantizer: ProsodyQuantizer | dict[str, Any], interleaved: bool | None = None) -> None:
        if interleaved is None:
            interleaved = quantizer.get(_INTERLEAVED, False) if isinstance(quantizer, dict) else False
        if not isinstance(interleaved, bool):
            raise ConfigurationError(
                f"{_INTERLEAVED} in the block prosody_quantizer is {interleaved!r:.40}", hint="true or false"
            )
        self.interleaved = interleaved
        self._quantizer = quantizer if isinstance(quantizer, ProsodyQuantizer) else None
        # Made in memory: no base holds it.
        self.is_new = self._quantizer is not None
        self.description = (
            quantizer.description
            if isinstance(quantizer, ProsodyQuantizer)
            else ProsodyDescription.from_dict(quantizer)
        )

    def to_dict(self) -> dict[str, Any]:
        """The block `prosody_quantizer` of processor_config.json."""
        values = self.description.to_dict()
        return {**values, _INTERLEAVED: True} if self.interleaved else values

    @property
    def num_marks(self) -> int:
        """Units of the processor's vocabulary that are codes: all of them if they are interleaved, else none."""
        return self.description.num_units if self.interleaved else 0

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
        """Units with codes beside or between them, each recording's made on the CPU from its own samples alone.

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
            both = replace(sequence, prosody=quantizer.encode(wave, sequence, centres, rate))
            result.append(interleave(both, encoder.num_units) if self.interleaved else both)
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
        """What is added to the fingerprint of the units: `prosody_digest`, and `streams_digest` of both streams.

        Of interleaved streams the `digest` is that of both, and `units_digest` that of the units alone.
        """
        mine = self.description.digest
        if self.interleaved:
            units = of_units["digest"]
            return {
                "digest": sha256_of_json([units, mine, _INTERLEAVED]),
                "units_digest": units,
                "prosody_digest": mine,
            }
        return {"prosody_digest": mine, "streams_digest": sha256_of_json([of_units["digest"], mine])}


def interleave(sequence: UnitSequence, num_units: int) -> UnitSequence:
    """Put a mark before every unit at which the prosody code changes, the first unit included.

    A language model of one stream then reads, and predicts, both.

    Args:
        sequence (`UnitSequence`): U units with codes beside them.
        num_units (`int`): K; the mark of code c is the unit K + c.

    Returns:
        `UnitSequence`: units and marks, of duration 0.

    Raises:
        UnitError: there are no codes.

    Example:
        Units `[5, 7, 5]` with codes `[2, 2, 0]` are `[102, 5, 7, 100, 5]` for 100 units.

    Source:
        SpiRit-LM (arXiv 2402.05755, section 2), whose pitch and style tokens stand between units where they change.
    """
    codes = sequence.prosody
    if codes is None:
        raise UnitError(
            "units without prosody codes cannot be interleaved", hint="the processor needs a second stream"
        )
    changes = np.flatnonzero(np.diff(codes, prepend=-1))
    return UnitSequence(
        np.insert(sequence.units, changes, num_units + codes[changes]), np.insert(sequence.durations, changes, 0)
    )


def separate(units: Sequence[int] | np.ndarray, num_units: int) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `interleave`: units and the codes beside them.

    Args:
        units (`Sequence[int]`): units and marks.
        num_units (`int`): K; what is K or more is a mark.

    Returns:
        `tuple[NDArray[int64], NDArray[int64]]`: U units, and the code of each; -1 before the first mark.
    """
    row = np.asarray(units, dtype=np.int64)
    is_mark = row >= num_units
    # The last mark at or before each place; the place before the first holds -1.
    latest = np.maximum.accumulate(np.where(is_mark, np.arange(1, len(row) + 1), 0)) if len(row) else row
    codes = np.append(-1, row - num_units)[latest]
    return row[~is_mark], codes[~is_mark]


def require_stream(stream: ProsodyStream | None) -> ProsodyStream:
    """The stream, where codes were given beside the units.

    Raises:
        ConfigurationError: there is none, or its codes stand between the units.
    """
    if stream is None:
        raise ConfigurationError(
            "prosody codes were given to a processor without a prosody quantizer",
            hint="leave them out, or use the processor that made them",
        )
    if stream.interleaved:
        raise ConfigurationError(
            "prosody codes were given to a processor whose units hold them",
            hint="leave them out; interleave puts codes between units",
        )
    return stream
