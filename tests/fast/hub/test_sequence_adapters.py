"""The files of adapters that say sequences: the output tokenizer is one of them, and is checked like the others."""

import json

import pytest
import torch

from speechprompt_hf import SpeechPromptForAudioClassification, SpeechPromptForSequenceGeneration
from speechprompt_hf.core.digest import sha256_of_file
from speechprompt_hf.core.errors import AdapterError
from speechprompt_hf.hub.staging import is_adapter_file, is_base_file, stage_adapter
from tests.fixtures.sequences import saying_model
from tests.fixtures.tiny_models import PEFT_WARNING, tiny_lm
from tests.fixtures.unit_mbarts import tiny_mbart

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

IDS = torch.tensor([[2, 9, 10, 17, 5, 0]])
TOKENIZER = "output_tokenizer.json"


@pytest.fixture(params=[tiny_lm, tiny_mbart], ids=["GSLM", "Unit mBART"])
def saved(request, tmp_path):
    """Folder of a base and of an adapter on it, and what the adapter says."""
    request.param().save_pretrained(tmp_path / "base")
    model = saying_model(tmp_path / "base")
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter", model.generate(input_ids=IDS).tolist()


def test_the_tokenizer_is_recorded_like_the_tensor_files(saved):
    folder, said = saved
    recorded = json.loads((folder / "config.json").read_text())["file_sha256"]
    assert recorded == {
        name: sha256_of_file(folder / name)
        for name in ("adapter_model.safetensors", "verbalizer.safetensors", TOKENIZER)
    }
    model = SpeechPromptForSequenceGeneration.from_pretrained(folder)
    assert model.generate(input_ids=IDS).tolist() == said


def test_another_tokenizer_is_refused(saved):
    folder, _ = saved
    text = (folder / TOKENIZER).read_text()
    (folder / TOKENIZER).write_text(text.replace('"a":', '"z":'))
    with pytest.raises(AdapterError, match=f"{TOKENIZER} is not the file that .* was saved with"):
        SpeechPromptForSequenceGeneration.from_pretrained(folder)
    (folder / TOKENIZER).write_text("[" * 10_000)
    with pytest.raises(AdapterError, match=f"{TOKENIZER} is not valid JSON"):
        SpeechPromptForSequenceGeneration.from_pretrained(folder)
    (folder / TOKENIZER).unlink()
    with pytest.raises(AdapterError, match=f"has no {TOKENIZER}"):
        SpeechPromptForSequenceGeneration.from_pretrained(folder)


def test_an_adapter_without_a_record_still_opens(saved):
    folder, said = saved
    values = json.loads((folder / "config.json").read_text())
    del values["file_sha256"]
    (folder / "config.json").write_text(json.dumps(values))
    model = SpeechPromptForSequenceGeneration.from_pretrained(folder)
    assert model.generate(input_ids=IDS).tolist() == said


def test_a_classifier_that_is_saved_over_it_takes_the_tokenizer_away(saved):
    folder, _ = saved
    classifier = SpeechPromptForAudioClassification.from_base(folder.parent / "base", ["no", "yes"])
    classifier.save_pretrained(folder)
    assert not (folder / TOKENIZER).exists()
    assert TOKENIZER not in json.loads((folder / "config.json").read_text())["file_sha256"]


def test_the_tokenizer_is_staged_and_must_be_there(saved, tmp_path):
    folder, _ = saved
    assert is_adapter_file(TOKENIZER) and not is_base_file(TOKENIZER)
    (tmp_path / "stage").mkdir()
    stage_adapter(folder, tmp_path / "stage", base_id="org/base", base_commit="c" * 40)
    assert (tmp_path / "stage" / TOKENIZER).read_bytes() == (folder / TOKENIZER).read_bytes()
    (folder / TOKENIZER).unlink()
    with pytest.raises(AdapterError, match=f"{TOKENIZER} missing"):
        stage_adapter(folder, tmp_path / "stage", base_id="org/base", base_commit="c" * 40)


def test_each_class_names_the_other(saved):
    folder, _ = saved
    with pytest.raises(AdapterError, match=r"says sequences.*open it with SpeechPromptForSequenceGeneration"):
        SpeechPromptForAudioClassification.from_pretrained(folder)
    classifier = SpeechPromptForAudioClassification.from_base(folder.parent / "base", ["no", "yes"])
    classifier.save_pretrained(folder.parent / "classifier")
    with pytest.raises(AdapterError, match=r"is a classifier.*open it with SpeechPromptForAudioClassification"):
        SpeechPromptForSequenceGeneration.from_pretrained(folder.parent / "classifier")
