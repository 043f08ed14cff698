"""Every error that the package raises on purpose: typed, naming the offending item, saying what to do."""

from __future__ import annotations

__all__ = [
    "AdapterError",
    "AudioDecodeError",
    "AudioError",
    "AudioTooLongError",
    "AudioTooShortError",
    "AudioValueError",
    "ConfigurationError",
    "DatasetError",
    "FingerprintMismatchError",
    "HubError",
    "LabelError",
    "MissingDependencyError",
    "SamplingRateError",
    "SpeechPromptError",
    "UnitError",
    "VocabularyError",
]


class SpeechPromptError(Exception):
    """Base of all errors of this package.

    Args:
        message (`str`): what was given and what is allowed.
        hint (`str`, *optional*): what to do next; it is shown after the message.
        is_mistake (`bool`, *optional*): the class's by default.
    """

    is_mistake: bool = True
    """Whether what was given was wrong (exit code 2), rather than that something failed (exit code 1)."""

    def __init__(self, message: str, *, hint: str | None = None, is_mistake: bool | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if is_mistake is not None:
            self.is_mistake = is_mistake

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.hint})" if self.hint else message


class ConfigurationError(SpeechPromptError, ValueError):
    """Options contradict each other or have a value that does not exist."""


class MissingDependencyError(SpeechPromptError, ImportError):
    """An optional package is absent or broken."""


class AudioError(SpeechPromptError, ValueError):
    """A recording cannot be used."""


class AudioDecodeError(AudioError):
    """The bytes are no sound file that can be read: corrupt, truncated or of an unknown format."""


class AudioTooLongError(AudioError):
    """The recording lasts longer than was allowed; no more of it was read."""


class AudioTooShortError(AudioError):
    """The recording is empty or shorter than one frame of the encoder."""


class AudioValueError(AudioError):
    """Samples are not finite, or not floating point."""


class SamplingRateError(AudioError):
    """The sampling rate is missing or impossible."""


class UnitError(SpeechPromptError, ValueError):
    """A sequence of units is empty, has the wrong type or units that the vocabulary lacks."""


class VocabularyError(SpeechPromptError, ValueError):
    """A unit vocabulary is malformed."""


class LabelError(SpeechPromptError, ValueError):
    """Labels are unknown, repeated, or too many for the verbalizer."""


class DatasetError(SpeechPromptError, ValueError):
    """A data set cannot be read or split as asked."""


class AdapterError(SpeechPromptError, ValueError):
    """An adapter folder is incomplete or does not fit the model."""


class FingerprintMismatchError(SpeechPromptError, ValueError):
    """Weights, centroids or units are not those that were recorded."""


class HubError(SpeechPromptError, OSError):
    """The Hub refused, or could not be reached; nothing was changed there unless the message says so."""
