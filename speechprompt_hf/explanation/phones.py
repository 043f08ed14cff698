"""Which phone each unit was heard in: alignments of TextGrids, or of a CTC model and a transcript."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationError
from ..core.extras import require

__all__ = ["Phone", "ctc_phones", "phones_of_units", "read_textgrid"]

# An hour of phones takes less.
_MAX_BYTES = 16 * 2**20
_PHONE_TIERS = ("phones", "phone", "phonemes", "phoneme", "mau", "segments")


@dataclass(frozen=True)
class Phone:
    """One phone, letter or word of an alignment.

    Attributes:
        name (`str`): as the alignment writes it.
        start (`float`): when it begins, in seconds.
        end (`float`): when it ends, in seconds.
    """

    name: str
    start: float
    end: float


def read_textgrid(path: str | os.PathLike[str], tier: str | None = None) -> list[Phone]:
    """Read the phones of a Praat TextGrid, long or short.

    Args:
        path (`str | PathLike`): the file.
        tier (`str`, *optional*): the name of its tier of intervals. By default `phones`, `phonemes`, `MAU` or
            `segments`, in any case, else the tier with the most intervals.

    Returns:
        `list[Phone]`: in order, without those that have no name.

    Raises:
        ConfigurationError: there is no such file, it is no TextGrid, or has no such tier.
        MissingDependencyError: praatio is not installed.
    """
    textgrid = require("praatio.textgrid", "explain")
    file = Path(path)
    if not file.is_file():
        raise ConfigurationError(f"{path} is no file", hint="give the path of a TextGrid")
    size = file.stat().st_size
    if size > _MAX_BYTES:
        raise ConfigurationError(f"{path} has {size} bytes, more than the {_MAX_BYTES} of a TextGrid that is read")
    try:
        grid = textgrid.openTextgrid(
            os.fspath(file), includeEmptyIntervals=False, reportingMode="silence", duplicateNamesMode="rename"
        )
        found = {
            one.name: [(str(name), float(start), float(end)) for start, end, name in one.entries]
            for one in grid.tiers
            if isinstance(one, textgrid.IntervalTier)
        }
    except Exception as error:
        # praatio says of damaged files whatever its parsing stumbles over.
        raise ConfigurationError(
            f"{path} cannot be read as a TextGrid: {type(error).__name__}: {str(error)[:200]}",
            hint="save it with Praat, or with the aligner, as a TextGrid text file",
        ) from error
    return [Phone(*entry) for entry in found[_tier(found, tier, os.fspath(path))] if entry[0].strip()]


def _tier(found: dict[str, list[tuple[str, float, float]]], wanted: str | None, path: str) -> str:
    names = ", ".join(found) or "none"
    if wanted is not None:
        if wanted not in found:
            raise ConfigurationError(f"{path} has no tier of intervals {wanted!r}", hint=f"its tiers are {names}")
        return wanted
    if not any(found.values()):
        raise ConfigurationError(f"{path} has no intervals with names", hint=f"its tiers of intervals are {names}")
    known = [name for name in found if name.lower() in _PHONE_TIERS and found[name]]
    return known[0] if known else max(found, key=lambda name: len(found[name]))


def phones_of_units(
    starts: NDArray[np.floating], ends: NDArray[np.floating], phones: Sequence[Phone]
) -> list[str | None]:
    """The phone that each unit shares most time with.

    Args:
        starts (`NDArray[floating]` of shape `(T,)`): when each unit begins, in seconds.
        ends (`NDArray[floating]` of shape `(T,)`): when it ends.
        phones (`Sequence[Phone]`): of the same recording.

    Returns:
        `list[str | None]` of length T: `None` for units that no phone overlaps.
    """
    if not phones:
        return [None] * len(starts)
    begins, stops = np.array([phone.start for phone in phones]), np.array([phone.end for phone in phones])
    names: list[str | None] = []
    for start, end in zip(starts, ends, strict=True):
        shared = np.minimum(stops, end) - np.maximum(begins, start)
        best = int(shared.argmax())
        names.append(phones[best].name if shared[best] > 0 else None)
    return names


def ctc_phones(
    waveform: NDArray[np.float32], sampling_rate: int, ctc_model: str | os.PathLike[str], transcript: str
) -> list[Phone]:
    """Align a transcript with a recording by a CTC model of transformers.

    Each token of the model, a letter or a phone, lasts until the middle between its last frame and the first frame of
    the next one: CTC models say a token in one or few frames, and blank between.

    Args:
        waveform (`NDArray[float32]` of shape `(S,)`): the recording.
        sampling_rate (`int`): its rate in Hz.
        ctc_model (`str | PathLike`): folder or Hub id of a model for `AutoModelForCTC` with its processor.
        transcript (`str`): what is said, in the letters or phones of the model's tokenizer.

    Returns:
        `list[Phone]`: one a token.

    Raises:
        ConfigurationError: the model cannot be opened, the transcript has no token that it knows, or has more than
            fit into the recording.
    """
    import torch

    from ..core.audio_io import resample
    from ..data.alignment import align

    model, extractor, tokenizer = _open_ctc(ctc_model)
    rate = int(extractor.sampling_rate)
    samples = resample(np.asarray(waveform, dtype=np.float32), sampling_rate, rate)
    blank = model.config.pad_token_id or 0
    tokens = [token for token in tokenizer(transcript).input_ids if token not in (blank, tokenizer.unk_token_id)]
    if not tokens:
        raise ConfigurationError(
            f"{ctc_model} knows no token of the transcript {transcript[:60]!r}",
            hint="write it in the letters (often upper case) or phones of the model's tokenizer",
        )
    inputs = extractor(samples, sampling_rate=rate, return_tensors="pt")
    with torch.no_grad():
        emissions = model(**inputs).logits[0].log_softmax(-1)
    spans = align(emissions, tokens, blank)
    frame = len(samples) / rate / len(emissions)
    borders = [(left.end_frame + right.start_frame) / 2 * frame for left, right in pairwise(spans)]
    starts, ends = [spans[0].start_frame * frame, *borders], [*borders, spans[-1].end_frame * frame]
    names = tokenizer.convert_ids_to_tokens(tokens)
    return [Phone(str(name), start, end) for name, start, end in zip(names, starts, ends, strict=True)]


def _open_ctc(name: str | os.PathLike[str]) -> tuple[Any, Any, Any]:
    from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

    where = os.fspath(name)
    try:
        model = AutoModelForCTC.from_pretrained(where).eval()
        return model, AutoFeatureExtractor.from_pretrained(where), AutoTokenizer.from_pretrained(where)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"{where} cannot be opened as a CTC model: {str(error)[:300]}",
            hint="a folder or Hub id of a model for transformers' AutoModelForCTC, with its tokenizer",
        ) from error
