"""A prosody quantizer from a corpus of recordings."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationError
from ..processors.processing_speech_units import SpeechUnitProcessor
from ..processors.prosody import PitchSettings
from ..processors.prosody_quantizer import ProsodyQuantizer
from ..processors.prosody_units import PROSODY_FEATURES, PROSODY_SCALES, frame_centres
from .quantization import fit_quantizer

__all__ = ["fit_prosody_quantizer", "prosody_vectors"]

_BATCH_RECORDINGS = 16


def fit_prosody_quantizer(
    waves: Iterable[NDArray[np.float32]],
    processor: SpeechUnitProcessor,
    *,
    num_units: int = 64,
    seed: int = 0,
    pitch: PitchSettings | None = None,
    show_progress: bool = False,
) -> ProsodyQuantizer:
    """k-means over the prosody of the merged units of a corpus.

    Take speech of several speakers, men and women, whose licence lets you share what is learnt from it. The codes hold
    no absolute pitch, so the voices need not be those of the task.

    Args:
        waves (`Iterable[NDArray[float32]]`): recordings `(S,)` at the processor's rate, one channel.
        processor (`SpeechUnitProcessor`): makes the units that the codes will stand beside.
        num_units (`int`, *optional*, defaults to 64): number of codes K.
        seed (`int`, *optional*, defaults to 0): of all draws; the same seed gives the same quantizer.
        pitch (`PitchSettings`, *optional*): of the pitch tracker.
        show_progress (`bool`, *optional*, defaults to `False`): a bar over the passes of k-means.

    Returns:
        `ProsodyQuantizer`: hand it to `SpeechUnitProcessor.from_unit_encoder` and save the processor.

    Raises:
        AudioError: one of its kinds, naming the recording in its batch of 16.
        ConfigurationError: there are no recordings, or fewer units than codes.

    Example:
        ```python
        quantizer = fit_prosody_quantizer(waves, processor)
        SpeechUnitProcessor.from_unit_encoder(processor.unit_encoder, processor.tokenizer, quantizer)
        ```
    """
    probe = ProsodyQuantizer(np.zeros((1, len(PROSODY_FEATURES)), dtype=np.float32), pitch=pitch or PitchSettings())
    vectors = prosody_vectors(waves, processor, probe)
    fit = fit_quantizer(vectors / np.array(PROSODY_SCALES), num_units, seed=seed, show_progress=show_progress)
    return ProsodyQuantizer(fit.centroids, pitch=probe.pitch)


def prosody_vectors(
    waves: Iterable[NDArray[np.float32]], processor: SpeechUnitProcessor, quantizer: ProsodyQuantizer
) -> NDArray[np.float64]:
    """`unit_prosody` of all merged units of a corpus, `(N, 6)`; arguments and errors as in `fit_prosody_quantizer`."""
    encoder: Any = processor.unit_encoder
    rate, chunk = encoder.description.sampling_rate, encoder.description.chunk_samples
    found = []
    remaining = iter(waves)
    while some := list(islice(remaining, _BATCH_RECORDINGS)):
        rows = processor.feature_extractor.waveforms(some, rate)
        for row, sequence in zip(rows, encoder.encode(rows), strict=True):
            centres = frame_centres(len(row), encoder.dense_model.geometry, chunk)
            found.append(quantizer.vectors(row, sequence, centres, rate))
    if not found:
        raise ConfigurationError("there are no recordings to learn prosody codes from", hint="give some speech")
    return np.concatenate(found)
