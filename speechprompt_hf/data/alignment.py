"""Forced alignment of known tokens with frames: by torchaudio where it loads, else by an equal search."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationError
from ..core.extras import require, torchaudio_is_usable

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
        ConfigurationError: a target is blank or no column, or there are fewer frames than the targets need.
    """
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
    if not torchaudio_is_usable():
        # torchaudio loads only beside the torch build that it was made for.
        return _spans(emissions.double().cpu().numpy(), tokens, blank)
    functional = require("torchaudio.functional", "torchaudio")
    places = torch.tensor([tokens], dtype=torch.int32, device=emissions.device)
    path, scores = functional.forced_align(emissions[None], places, blank=blank)
    spans = functional.merge_tokens(path[0], scores[0].exp(), blank=blank)
    return [Span(int(span.token), int(span.start), int(span.end), float(span.score)) for span in spans]


def _spans(emissions: NDArray[np.float64], tokens: Sequence[int], blank: int) -> list[Span]:
    """Spans of the best path through blank, token, blank, token, …, blank, of emissions `(T, C)`."""
    states = np.full(2 * len(tokens) + 1, blank)
    states[1::2] = tokens
    # The blank between two different tokens may be left out.
    skips = np.zeros(len(states), dtype=bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    best = np.full(len(states), -np.inf)
    best[:2] = emissions[0, states[:2]]
    steps = np.zeros((len(emissions), len(states)), dtype=np.int8)
    for frame in range(1, len(emissions)):
        one = np.concatenate([[-np.inf], best[:-1]])
        two = np.where(skips, np.concatenate([[-np.inf, -np.inf], best[:-2]]), -np.inf)
        choices = np.stack([best, one, two])
        steps[frame] = choices.argmax(0)
        best = choices.max(0) + emissions[frame, states]
    state = len(states) - 2 + int(best[-1] > best[-2])
    path = np.zeros(len(emissions), dtype=np.int64)
    for frame in range(len(emissions) - 1, -1, -1):
        path[frame] = state
        state -= int(steps[frame, state])
    result = []
    for number, token in enumerate(tokens):
        frames = np.flatnonzero(path == 2 * number + 1)
        score = float(np.exp(emissions[frames, token]).mean())
        result.append(Span(token, int(frames[0]), int(frames[-1]) + 1, score))
    return result
