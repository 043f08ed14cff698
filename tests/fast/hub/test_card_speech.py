"""Cards and staged files of adapters that answer with speech."""

import json
import shutil

import pytest
from huggingface_hub import ModelCard

from speechprompt_hf.hub.card import write_model_card
from speechprompt_hf.hub.staging import stage_adapter
from tests.fixtures.speech_generation import save_speaking_folders
from tests.fixtures.tiny_models import PEFT_WARNING

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_speaking_folders(tmp_path_factory.mktemp("card"))


@pytest.fixture
def adapter(saved, tmp_path):
    return shutil.copytree(saved / "adapter", tmp_path / "adapter")


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_short_card(saved):
    card = ModelCard.load(saved / "adapter" / "README.md")
    assert card.data.pipeline_tag == "audio-to-audio"
    assert "from speechprompt_hf import SpeechPromptForSpeechGeneration" in card.text
    assert "It answers with speech (continuation), in 20 units" in card.text


def test_the_full_card(adapter):
    change(adapter, vocoder_name_or_path="org/vocoder", speech_task="translation")
    write_model_card(adapter, repo_id="org/speaks", base_id="org/base", overwrite=True)
    card = ModelCard.load(adapter / "README.md")
    assert card.data.pipeline_tag == "audio-to-audio"
    assert "Translates a recording, in 20 units of speech, which a vocoder makes sound." in card.text
    assert 'load_vocoder("org/vocoder")' in card.text
    assert "speechprompt generate org/speaks RECORDING.wav --vocoder org/vocoder --output SPEECH" in card.text
    assert "voice, pitch and pace" in card.text and "automatic-speech-recognition" not in card.text


def test_a_vocoder_of_this_machine_is_nobodys_to_know(adapter, saved, tmp_path):
    write_model_card(adapter, repo_id="org/speaks", base_id="org/base", overwrite=True)
    text = (adapter / "README.md").read_text()
    assert str(saved) not in text and 'load_vocoder("VOCODER")' in text
    for number, (name, staged) in enumerate(((str(saved / "vocoder"), None), ("org/vocoder", "org/vocoder"))):
        change(adapter, vocoder_name_or_path=name, vocoder_revision="v1")
        (tmp_path / str(number)).mkdir()
        stage_adapter(adapter, tmp_path / str(number), base_id="org/base", base_commit="c" * 40)
        values = json.loads((tmp_path / str(number) / "config.json").read_text())
        assert values["vocoder_name_or_path"] == staged
        assert values["vocoder_revision"] == (staged and "v1")
        assert values["target_units"]["num_units"] == 20
