"""Answers as the Hub's clients read them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .adapter_groups import ClassScores
from .bodies import Parameters

__all__ = ["answer_document"]


def answer_document(answer: Any, parameters: Parameters) -> Any:
    """What is sent as JSON.

    Args:
        answer (`ClassScores | str`): of the engine.
        parameters (`Parameters`): of the request.

    Returns:
        `list[dict] | dict`: `[{"label", "score"}, …]`, the most probable first, or `{"text"}`.
    """
    if isinstance(answer, str):
        return {"text": answer}
    assert isinstance(answer, ClassScores)
    scores = answer.logits
    if parameters.function_to_apply == "softmax":
        scores = np.exp(scores - scores.max())
        scores = scores / scores.sum()
    elif parameters.function_to_apply == "sigmoid":
        scores = 1 / (1 + np.exp(-scores))
    # Of equal ones the first, as argmax has it.
    order = np.argsort(-scores, kind="stable")[: parameters.top_k]
    return [{"label": answer.labels[index], "score": float(scores[index])} for index in order]
