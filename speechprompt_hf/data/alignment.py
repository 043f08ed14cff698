"""Forced alignment of a known sequence of tokens with frames, by torchaudio."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ..core.errors import ConfigurationError
from ..core.extras import require

__all__ = ["Span", "align"]


class Span(NamedTuple):
    """Where one token lies.

    Attributes:
        token (`int`): column of the log-probabilities.
        start_frame (`int`): its first frame.
        end_frame (`int`): the frame after its last one.
        score (`float`): mean probability of the token over its frames, between 0 and 1.
    """

    token: int
    start_frame: int
    end_frame: int
    score: float


def align(log_probabilities: Any, targets: Sequence[int], blank: int = 0) -> list[Span]:
    """The most probable way (by the rules of CTC) in which frames spell a sequence of tokens.

    Args:
        log_probabilities (`Tensor` of shape `(T, C)`, floating): log-probabilities of C tokens in T frames.
        targets (`Sequence[int]` of length N): the tokens in order, none of them blank.
        blank (`int`, defaults to 0): the column that stands for no token.

    Returns:
        `list[Span]`: one a target, in order.

    Raises:
        MissingDependencyError: torchaudio is absent or broken.
        ConfigurationError: a target is blank or no column, or there are fewer frames than the targets need.
    """
    functional = require("torchaudio.functional", "torchaudio")
    import torch

    emissions = torch.as_tensor(log_probabilities).detach().float()
    tokens = [int(token) for token in targets]
    if emissions.ndim != 2:
        raise ConfigurationError(f"log_probabilities have shape {tuple(emissions.shape)}", hint="(frames, tokens)")
    num_frames, num_tokens = emissions.shape
    wrong = [token for token in tokens if token == blank or not 0 <= token < num_tokens]
    if wrong or not 0 <= blank < num_tokens:
        raise ConfigurationError(
            f"target {wrong[0] if wrong else blank} with blank {blank} and {num_tokens} columns",
            hint="targets are columns other than blank",
        )
    # Equal neighbours are told apart by a blank between them.
    needed = len(tokens) + sum(left == right for left, right in pairwise(tokens))
    if not tokens:
        return []
    if needed > num_frames:
        raise ConfigurationError(
            f"{len(tokens)} targets need {needed} frames, there are {num_frames}", hint="leave the recording out"
        )
    places = torch.tensor([tokens], dtype=torch.int32, device=emissions.device)
    path, scores = functional.forced_align(emissions[None], places, blank=blank)
    spans = functional.merge_tokens(path[0], scores[0].exp(), blank=blank)
    return [Span(int(span.token), int(span.start), int(span.end), float(span.score)) for span in spans]
