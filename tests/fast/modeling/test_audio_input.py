"""Audio through an attached processor, and units left out in training."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from speechprompt_hf.core.embedded import DEFAULT_BASE, resolve_base
from speechprompt_hf.core.errors import AdapterError, ConfigurationError, FingerprintMismatchError
from speechprompt_hf.core.units import UnitSequence
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from speechprompt_hf.modeling.modeling_for_audio_classification import drop_units
from speechprompt_hf.processors import SpeechUnitProcessor
from tests.fixtures.tiny_models import RAGGED_ROWS, pad, tiny_lm


class StandInProcessor:
    """Units are the integer parts of the samples: stands for an encoder and a quantizer."""

    def __init__(self, digest="units"):
        self.fingerprint = {"digest": digest}
        self.tokenizer = SimpleNamespace(vocabulary=UnitVocabulary.from_num_units(26))
        self.devices = []

    def to(self, device):
        self.devices.append(torch.device(device))
        return self

    def units_from_values(self, input_values, attention_mask=None):
        counts = [len(row) for row in input_values] if attention_mask is None else attention_mask.sum(1).tolist()
        return [
            UnitSequence.from_frames(row[:count].numpy().astype(np.int64))
            for row, count in zip(input_values, counts, strict=True)
        ]

    def prepare_units(self, units, return_tensors="pt"):
        ids, mask = pad([self.tokenizer.vocabulary.input_ids(row.tolist()) for row in units])
        return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture
def model():
    return SpeechPromptForAudioClassification.from_base(tiny_lm(fingerprint={"digest": "units"}), ["a", "b"])


@torch.no_grad()
def test_audio_equals_its_units(model):
    processor = StandInProcessor()
    model.attach_processor(processor)
    waves = torch.tensor([[1.2, 1.4, 5.5, 5.0, 8.0, 0.0], [9.0, 8.5, 8.0, 3.0, 3.0, 3.5]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]])
    ids, unit_mask = pad([[2, 5, 9, 12, 0], [2, 13, 12, 7, 0]])
    expected = model(input_ids=ids, attention_mask=unit_mask).logits
    assert torch.equal(model(input_values=waves, attention_mask=mask).logits, expected)
    assert processor.devices == [model.device]


def test_audio_needs_a_processor(model):
    with pytest.raises(AdapterError, match="no processor is attached"):
        model(input_values=torch.zeros(1, 800))


def test_a_processor_of_other_units_is_refused(model):
    with pytest.raises(FingerprintMismatchError, match="makes units other, the model was trained on units"):
        model.attach_processor(StandInProcessor("other"))
    with pytest.raises(FingerprintMismatchError):
        SpeechPromptForAudioClassification.from_base(
            tiny_lm(fingerprint={"digest": "units"}), ["a", "b"], processor=StandInProcessor("other")
        )


def test_an_attached_processor_is_saved_and_names_its_base(tmp_path):
    base = resolve_base(DEFAULT_BASE)
    shutil.copytree(base, tmp_path / "base")
    model = SpeechPromptForAudioClassification.from_base(tmp_path / "base", ["a", "b"])
    model.save_pretrained(tmp_path / "units")
    assert not (tmp_path / "units" / "processor_config.json").exists()
    model.attach_processor(AutoProcessor.from_pretrained(tmp_path / "base")).save_pretrained(tmp_path / "audio")
    saved = json.loads((tmp_path / "audio" / "processor_config.json").read_text())
    assert saved["unit_encoder"]["source"] == str(tmp_path / "base") and not (tmp_path / "audio" / "encoder").exists()
    assert SpeechPromptForAudioClassification.from_pretrained(tmp_path / "audio").processor is not None


def test_an_adapter_with_its_own_encoder_keeps_it_wherever_it_is_saved(tmp_path):
    processor = AutoProcessor.from_pretrained(resolve_base(DEFAULT_BASE))
    SpeechPromptForAudioClassification.from_base(DEFAULT_BASE, ["a", "b"]).save_pretrained(tmp_path / "first")
    processor.save_pretrained(tmp_path / "first", save_encoder=True)
    for saved in ("first", "second"):
        model = SpeechPromptForAudioClassification.from_pretrained(tmp_path / "first")
        assert model.processor is not None
        model.save_pretrained(tmp_path / saved)
        (tmp_path / saved).rename(tmp_path / f"{saved}-moved")
        moved = AutoProcessor.from_pretrained(tmp_path / f"{saved}-moved")
        assert moved.unit_encoder.description.source == "."
        moved.unit_encoder.load()
        (tmp_path / f"{saved}-moved").rename(tmp_path / saved)


def test_an_encoder_in_memory_is_looked_for_in_a_base_that_has_one(tmp_path):
    encoder = AutoProcessor.from_pretrained(resolve_base(DEFAULT_BASE)).unit_encoder.load()
    encoder.location, encoder.description = None, replace(encoder.description, source=".")
    model = SpeechPromptForAudioClassification.from_base(DEFAULT_BASE, ["a", "b"])
    model.attach_processor(SpeechUnitProcessor.from_unit_encoder(encoder)).save_pretrained(tmp_path)
    opened = AutoProcessor.from_pretrained(tmp_path)
    assert opened.base_source == DEFAULT_BASE
    opened.unit_encoder.load()


def test_the_processor_is_no_part_of_the_model(model):
    before = model.state_dict().keys()
    model.attach_processor(StandInProcessor())
    assert model.state_dict().keys() == before
    assert model.processor is not None


def test_the_units_of_a_nameless_base_are_the_processors():
    model = SpeechPromptForAudioClassification.from_base(tiny_lm(), ["a", "b"], processor=StandInProcessor("mine"))
    assert model.config.unit_fingerprint == {"digest": "mine"}


def test_units_and_audio_exclude_each_other(model):
    for arguments in ({}, {"input_ids": torch.tensor([[2, 0]]), "input_values": torch.zeros(1, 800)}):
        with pytest.raises(ConfigurationError, match="exactly one of input_ids and input_values"):
            model(**arguments)


@pytest.mark.parametrize("side", ["left", "right"])
def test_dropped_units_leave_order_start_and_separator(side):
    torch.manual_seed(0)
    ids, mask = pad([[2, *range(4, 30), 0], [2, 7, 8, 0]], side)
    kept_lengths = set()
    for _ in range(50):
        dropped, dropped_mask = drop_units(ids, mask, 0.3, pad_token_id=1)
        assert ((dropped == 1) == (dropped_mask == 0)).all()
        for row, keep in zip(dropped, dropped_mask, strict=True):
            tokens = row[keep.bool()].tolist()
            assert tokens[0] == 2
            assert tokens[-1] == 0
            assert tokens[1:-1] == sorted(tokens[1:-1])
        kept_lengths.add(int(dropped_mask[0].sum()))
    assert len(kept_lengths) > 3
    assert 15 < sum(kept_lengths) / len(kept_lengths) < 25


@torch.no_grad()
def test_units_are_dropped_in_training_only():
    model = SpeechPromptForAudioClassification.from_base(tiny_lm(), ["a", "b"], unit_dropout=0.5, prompt_dropout=0.0)
    ids, mask = pad(RAGGED_ROWS)
    assert torch.equal(model(ids, mask).logits, model(ids, mask).logits)
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(ids, mask).logits, model(ids, mask).logits)


def test_a_base_without_an_encoder_is_not_named(tmp_path):
    """An encoder in memory, on a language model alone: nothing could open what would name it."""
    encoder = AutoProcessor.from_pretrained(resolve_base(DEFAULT_BASE)).unit_encoder.load()
    encoder.location, encoder.description = None, replace(encoder.description, source=".")
    for name in ("config.json", "model.safetensors", "dict.txt"):
        (tmp_path / "lm").mkdir(exist_ok=True)
        shutil.copy(f"{resolve_base(DEFAULT_BASE)}/{name}", tmp_path / "lm")
    model = SpeechPromptForAudioClassification.from_base(tmp_path / "lm", ["a", "b"])
    model.attach_processor(SpeechUnitProcessor.from_unit_encoder(encoder)).save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "processor_config.json").exists()
