"""Text while it is said."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

__all__ = ["stream_text"]


def stream_text(model: Any, *, timeout: float | None = None, **inputs: Any) -> Iterator[str]:
    """Pieces of the text of one utterance, each as soon as it is known; joined they are the whole text.

    Words come whole, as transformers' streamers give them; the last piece comes at the end. The work is done in a
    thread, whose error is raised here, and which ends soon after a reader that leaves before the end.

    Args:
        model (`SpeechPromptForSequenceGeneration`): in evaluation mode.
        timeout (`float`, *optional*): seconds to wait for a piece; for ever by default.
        **inputs: of the model's `generate`, for one utterance and one beam: `input_ids` or `input_values`, …

    Yields:
        `str`: pieces that are not empty.

    Raises:
        Exception: whatever `generate` raised.
    """
    streamer = TextIteratorStreamer(
        model.output_tokenizer, skip_prompt=True, timeout=timeout, skip_special_tokens=True
    )
    failures: list[BaseException] = []
    has_left = Event()
    criteria = StoppingCriteriaList([*(inputs.pop("stopping_criteria", None) or ()), _Left(has_left)])

    def work() -> None:
        try:
            # Beams that were saved with the adapter cannot be streamed.
            model.generate(**({"num_beams": 1} | inputs), streamer=streamer, stopping_criteria=criteria)
        except BaseException as error:
            failures.append(error)
            streamer.end()

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        for piece in streamer:
            if piece:
                yield piece
    finally:
        has_left.set()
    thread.join()
    if failures:
        raise failures[0]


class _Left(StoppingCriteria):
    """Ends what nobody reads any more.

    Args:
        has_left (`Event`): set by the reader.
    """

    def __init__(self, has_left: Event) -> None:
        self._has_left = has_left

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Whether each row is done: bool of shape `(B,)`."""
        return torch.full((len(input_ids),), self._has_left.is_set(), dtype=torch.bool, device=input_ids.device)
