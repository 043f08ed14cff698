"""Why a request is not answered: a status and one sentence."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.errors import AudioTooLongError, SpeechPromptError

__all__ = ["BusyError", "ModelEndedError", "RequestRefusedError", "refusal_of"]


class RequestRefusedError(Exception):
    """A request that gets an error instead of an answer.

    Args:
        status (`int`): of HTTP.
        sentence (`str`): for the client.
        headers (`Mapping[str, str]`, *optional*): of the answer.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = dict(headers or {})


class BusyError(RequestRefusedError):
    """The service has more to do than it takes at once.

    Args:
        sentence (`str`): for the client.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(503, sentence, {"Retry-After": "1"})


class ModelEndedError(RequestRefusedError):
    """The model has ended, and no later try helps."""

    def __init__(self) -> None:
        super().__init__(503, "the model has ended; restart the service")


def refusal_of(error: BaseException) -> RequestRefusedError | None:
    """What a client is told of an error; `None` for those that are the service's own fault.

    Args:
        error (`BaseException`): what was raised.
    """
    if isinstance(error, RequestRefusedError):
        return error
    if isinstance(error, AudioTooLongError):
        return RequestRefusedError(413, str(error))
    if isinstance(error, SpeechPromptError) and error.is_mistake:
        return RequestRefusedError(422, str(error))
    return None
