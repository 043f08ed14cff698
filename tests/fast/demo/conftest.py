"""Adapters of several kinds on one tiny base, with labels and with texts, and recordings."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechprompt_hf.demo import DemoAnswers, open_tasks
from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from tests.fixtures.sequences import saying_model
from tests.fixtures.speech_encoders import unit_processor, waveforms
from tests.fixtures.speech_generation import save_speaking_folders
from tests.fixtures.tiny_models import randomize
from tests.fixtures.unit_tasks import save_audio_base

LABELS = {"words": ["no", "yes"], "moods": ["sad", "glad", "calm & <b>"]}


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    return save_audio_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def adapters(base, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    processor = unit_processor("hubert_two_convolutions")
    for seed, (task, labels) in enumerate(LABELS.items()):
        model = SpeechPromptForAudioClassification.from_base(str(base), labels, seed=seed)
        randomize(model.verbalizer, seed=seed, std=0.05)
        model.save_pretrained(root / task)
        processor.save_pretrained(root / task, base_source=str(base))
    model = saying_model(str(base))
    model.save_pretrained(root / "texts")
    processor.save_pretrained(root / "texts", base_source=str(base))
    return {task: root / task for task in (*LABELS, "texts")}


@pytest.fixture(scope="session")
def recording(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "a b.wav"
    (wave,) = waveforms([9000])
    soundfile.write(path, wave, 16000)
    return path


@pytest.fixture(scope="session")
def corrupt(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "<i>corrupt.wav"
    path.write_bytes(np.random.default_rng(0).bytes(4000))
    return path


@pytest.fixture(scope="session")
def tasks(adapters):
    return open_tasks(adapters, device="cpu")


@pytest.fixture
def answers(tasks):
    return DemoAnswers(tasks)


@pytest.fixture(scope="session")
def speaking(tmp_path_factory) -> Path:
    """`adapter` that continues recordings, the `vocoder` that it names, and their `base`."""
    return save_speaking_folders(tmp_path_factory.mktemp("speaking"))
