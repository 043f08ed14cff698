"""Text while it is said."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread
from typing import Any

from transformers import TextIteratorStreamer

__all__ = ["stream_text"]


def stream_text(model: Any, *, timeout: float | None = None, **inputs: Any) -> Iterator[str]:
    """Pieces of the text of one utterance, each as soon as it is known; joined they are the whole text.

    Words come whole, as transformers' streamers give them; the last piece comes at the end. The work is done in a
    thread, whose error is raised here.

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

    def work() -> None:
        try:
            # Beams that were saved with the adapter cannot be streamed.
            model.generate(**({"num_beams": 1} | inputs), streamer=streamer)
        except BaseException as error:
            failures.append(error)
            streamer.end()

    thread = Thread(target=work, daemon=True)
    thread.start()
    for piece in streamer:
        if piece:
            yield piece
    thread.join()
    if failures:
        raise failures[0]
