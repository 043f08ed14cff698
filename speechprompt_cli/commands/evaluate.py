"""`speechprompt evaluate`."""

from ..options import JsonOption


def run(as_json: JsonOption = False) -> None:
    """Not there yet."""
    raise NotImplementedError
