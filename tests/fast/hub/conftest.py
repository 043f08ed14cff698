"""An adapter with a report, on the embedded base."""

import json
import shutil

import pytest
from transformers import AutoProcessor

from speechprompt_hf import SpeechPromptForAudioClassification
from speechprompt_hf.core.embedded import DEFAULT_BASE, resolve_base
from tests.fixtures.cards import LABELS, make_report


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An adapter over the embedded base with a processor and a report."""
    folder = tmp_path_factory.mktemp("saved") / "my-adapter"
    processor = AutoProcessor.from_pretrained(resolve_base(DEFAULT_BASE))
    model = SpeechPromptForAudioClassification.from_base(DEFAULT_BASE, LABELS, processor=processor)
    model.save_pretrained(folder)
    processor.save_pretrained(folder, base_source=DEFAULT_BASE)
    (folder / "report.json").write_text(json.dumps(make_report()))
    (folder / "confusion.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture
def adapter(saved, tmp_path):
    folder = tmp_path / "my-adapter"
    shutil.copytree(saved, folder)
    return folder


@pytest.fixture
def readme(adapter):
    return adapter / "README.md"
