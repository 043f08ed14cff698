"""A full temporary disk while a run publishes: training goes on, a push that was asked for is a typed error."""

import errno

import pytest

from speechprompt_hf.core.errors import HubError
from speechprompt_hf.training import hub_publishing
from speechprompt_hf.training.hub_publishing import PublishedBase, RunPublisher


@pytest.fixture
def publisher(monkeypatch):
    def full(self, folder, target, processor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunPublisher, "_copy", full)
    return RunPublisher("me/keywords", PublishedBase("org/base", "0" * 40))


def test_training_goes_on(publisher, monkeypatch, tmp_path):
    said = []
    monkeypatch.setattr(hub_publishing.logger, "warning", said.append)
    publisher.start(tmp_path / "checkpoint-3", None, message="step 3")
    publisher.wait()
    assert not publisher.is_busy
    (warning,) = said
    assert "step 3" in warning and "checkpoint-3" in warning and "No space left" in warning


def test_a_push_that_was_asked_for_says_so(publisher, tmp_path):
    with pytest.raises(HubError, match="No space left") as caught:
        publisher.publish(tmp_path / "adapter", None)
    assert str(tmp_path / "adapter") in str(caught.value) and "TMPDIR" in str(caught.value)
