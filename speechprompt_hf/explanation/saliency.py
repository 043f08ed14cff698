"""How much each unit of an utterance speaks for a label, by the methods of captum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import ConfigurationError
from ..core.extras import require
from .scoring import UnitScorer, log_odds

__all__ = ["DEFAULT_METHOD", "METHODS", "Method", "check_method", "unit_saliency"]

Method = Literal["leave-one-out", "shapley", "occlusion", "integrated-gradients"]
METHODS: tuple[str, ...] = get_args(Method)
DEFAULT_METHOD: Method = "leave-one-out"

# Removal is tried for at most so many parts of an utterance; neighbours of longer ones are removed together.
_MOST_PARTS = 96
_ORDERS = 25
_WINDOW = 3
_STEPS = 50


def check_method(method: str) -> None:
    """Refuse a method that does not exist.

    Raises:
        ConfigurationError: it is not among `METHODS`.
    """
    if method not in METHODS:
        raise ConfigurationError(f"there is no method {method!r}", hint=f"one of {', '.join(METHODS)}")


def unit_saliency(
    scorer: UnitScorer, class_index: int, method: str = DEFAULT_METHOD, *, seed: int = 0
) -> NDArray[np.float32]:
    """How much each unit speaks for a class, in log-odds of the class.

    - `"leave-one-out"`: how much they fall when the unit alone is taken out.
    - `"shapley"`: the unit's share in what all units together say for the class: how much the log-odds fall when it is
      taken out, on average over 25 random orders in which the units are taken out one after the other. The values
      sum up to the log-odds of the utterance minus those of one without units.
    - `"occlusion"`: how much they fall when three neighbours are taken out, on average over the windows that the unit
      is in.
    - `"integrated-gradients"`: the gradient by the unit's embedding, integrated from none to all of all embeddings.
      The values sum up to the log-odds of the utterance minus those of one whose embeddings are zero.

    Of more than 96 units neighbours are taken out together and share the value evenly (not with
    `"integrated-gradients"`).

    Args:
        scorer (`UnitScorer`): the model and the utterance of T units.
        class_index (`int`): the class.
        method (`str`, defaults to `"leave-one-out"`): one of `METHODS`.
        seed (`int`, defaults to 0): of the orders.

    Returns:
        `NDArray[float32]` of shape `(T,)`: above 0 for the class, below 0 against it.

    Raises:
        ConfigurationError: there is no such method.
        MissingDependencyError: captum is not installed.

    Source:
        captum `ShapleyValueSampling` (Castro et al. 2009), `FeatureAblation`, `Occlusion` (Zeiler and Fergus 2014),
        `IntegratedGradients` (Sundararajan et al. 2017), over a vector that says which units are there.
    """
    check_method(method)
    captum = require("captum.attr", "explain")
    present = torch.ones(1, scorer.num_units)
    # Units of one part are removed together.
    num_parts = min(scorer.num_units, _MOST_PARTS)
    part_of_unit = torch.arange(scorer.num_units) * num_parts // max(scorer.num_units, 1)
    rows = scorer.rows_at_once

    def of_parts(presence: Tensor) -> Tensor:
        kept = presence[:, part_of_unit] > 0.5
        return log_odds(scorer.logits(kept), class_index)

    def of_embeddings(presence: Tensor) -> Tensor:
        return log_odds(scorer.faded_logits(presence), class_index)

    if method == "integrated-gradients":
        gradients = captum.IntegratedGradients(of_embeddings)
        values = gradients.attribute(present, n_steps=_STEPS, internal_batch_size=rows)[0]
    else:
        parts = _by_removal(captum, of_parts, torch.ones(1, num_parts), method, seed)
        values = parts[part_of_unit] / part_of_unit.bincount()[part_of_unit]
    return values.detach().float().numpy()


def _by_removal(captum: Any, score: Callable[[Tensor], Tensor], parts: Tensor, method: str, seed: int) -> Tensor:
    """What one of the methods that take parts out says of a row of parts `(1, P)`.

    What is to be scored does not depend on scores. So captum is asked twice: first for all it wants to know, which is
    scored in few large batches instead of one batch an order, then for its answer.
    """
    asked: list[Tensor] = []

    def note(presence: Tensor) -> Tensor:
        asked.append(presence.clone())
        return presence.new_zeros(len(presence))

    _attribute(captum, note, parts, method, seed)
    answers = iter(score(torch.cat(asked)).split([len(presence) for presence in asked]))
    return _attribute(captum, lambda _: next(answers), parts, method, seed)


def _attribute(captum: Any, score: Callable[[Tensor], Tensor], parts: Tensor, method: str, seed: int) -> Tensor:
    if method == "leave-one-out":
        values = captum.FeatureAblation(score).attribute(parts, perturbations_per_eval=parts.shape[1])
    elif method == "occlusion":
        window = (min(_WINDOW, parts.shape[1]),)
        values = captum.Occlusion(score).attribute(
            parts, sliding_window_shapes=window, perturbations_per_eval=parts.shape[1]
        )
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            values = captum.ShapleyValueSampling(score).attribute(
                parts, n_samples=_ORDERS, perturbations_per_eval=parts.shape[1]
            )
    found: Tensor = values[0]
    return found
