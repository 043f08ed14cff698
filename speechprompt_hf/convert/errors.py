"""What goes wrong when a foreign checkpoint is read."""

from __future__ import annotations

from ..core.errors import SpeechPromptError

__all__ = ["ConversionError"]


class ConversionError(SpeechPromptError, ValueError):
    """A foreign checkpoint is damaged, hostile, or of a kind that cannot be converted."""
