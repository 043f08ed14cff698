"""What the Hub's client raises becomes one sentence, and says whose fault it is: exit code 2 or 1."""

import errno
import re

import huggingface_hub.constants
import pytest
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from speechprompt_hf.core.errors import HubError
from speechprompt_hf.hub.client import talking_to_the_hub


class Response:
    """As much of an answer as errors look at."""

    def __init__(self, status):
        self.status_code, self.headers, self.request = status, {}, None


def status(number, cls=HfHubHTTPError):
    return cls(f"status {number}", response=Response(number))


def hidden(cause):
    error = RuntimeError("an upload failed")
    error.__cause__ = cause
    return error


MISTAKES = [
    (status(401, RepositoryNotFoundError), "there is no such repository"),
    (status(404, RevisionNotFoundError), "no such branch"),
    (EntryNotFoundError("config.json"), "a file is missing"),
    (HFValidationError("spaces"), "is no repository id"),
    (LocalTokenNotFoundError("Token is required"), "you are not logged in .*hf auth login"),
    (status(401), r"refused it \(401\).*hf auth login"),
    (status(403), r"refused it \(403\)"),
    (hidden(status(403)), r"refused it \(403\)"),
    (status(400), "status 400"),
]
FAILURES = [
    (LocalEntryNotFoundError("config.json"), "the Hub cannot be reached"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "the connection failed .*check the network"),
    (TimeoutError("nobody answers"), "the connection failed"),
    (hidden(ConnectionError("reset")), "the connection failed"),
    (status(409), "somebody else changed it"),
    (status(412), "somebody else changed it"),
    (status(429), "is busy"),
    (status(500), "is busy"),
    (hidden(status(503)), "is busy"),
    (OSError(errno.ENOSPC, "No space left on device"), "no room on the disk"),
]


def said(error):
    with pytest.raises(HubError) as caught, talking_to_the_hub("org/name", "push to"):
        raise error
    return caught.value


@pytest.mark.parametrize(("error", "words"), MISTAKES, ids=lambda each: str(each)[:30])
def test_what_the_user_can_mend_is_a_mistake(error, words):
    found = said(error)
    assert found.is_mistake and re.search(words, str(found))


@pytest.mark.parametrize(("error", "words"), FAILURES, ids=lambda each: str(each)[:30])
def test_what_only_failed_is_none(error, words, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    found = said(error)
    assert not found.is_mistake and re.search(f"cannot push to org/name: .*{words}", str(found))


def test_a_hub_that_must_not_be_asked_is_the_users_word(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    found = said(OfflineModeIsEnabled("offline"))
    assert found.is_mistake and "HF_HUB_OFFLINE" in found.hint


def test_a_defect_of_ours_stays_what_it_is():
    with pytest.raises(KeyError), talking_to_the_hub("org/name", "read"):
        raise KeyError("a defect")
