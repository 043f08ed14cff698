"""The processor inside Trainer and pipeline."""

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments, pipeline

from speechprompt_hf import GSLMConfig, GSLMForCausalLM, SpeechPromptForAudioClassification, SpeechUnitProcessor
from tests.fixtures.speech_encoders import unit_processor, waveforms

LABELS = ["no", "yes", "stop"]


@pytest.fixture(scope="module")
def processor():
    return unit_processor()


@pytest.fixture
def lm(processor):
    torch.manual_seed(0)
    config = GSLMConfig(
        vocab_size=len(processor.tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=256,
        fingerprint=processor.fingerprint,
    )
    return GSLMForCausalLM(config)


@pytest.fixture
def classifier(processor, lm):
    model = SpeechPromptForAudioClassification.from_base(lm, LABELS, num_virtual_tokens=2, processor=processor)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def test_trainer_takes_the_processor_and_aligns_nothing(processor, lm, tmp_path):
    batch = processor(waveforms([4000, 4000]), sampling_rate=16000, padding=True, return_tensors="pt")
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": torch.where(mask.bool(), ids, -100)}
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    before = (lm.config.pad_token_id, lm.config.bos_token_id, lm.config.eos_token_id)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    Trainer(model=lm, args=arguments, train_dataset=rows, processing_class=processor).train()
    assert before == (lm.config.pad_token_id, lm.config.bos_token_id, lm.config.eos_token_id) == (1, 0, 2)
    checkpoint = SpeechUnitProcessor.from_pretrained(tmp_path / "checkpoint-1")
    assert checkpoint.fingerprint == processor.fingerprint


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_pipeline_makes_units_in_the_models_forward(classifier, processor, batch_size):
    classify = pipeline(
        "audio-classification", model=classifier, feature_extractor=processor.feature_extractor, device="cpu"
    )
    waves = waveforms([16000, 4000, 9000, 800])
    results = classify(list(waves), batch_size=batch_size)
    units = processor(waves, sampling_rate=16000, return_tensors="pt")
    expected = classifier(**units).logits.softmax(-1)
    for row, scores in enumerate(results):
        ranked = {item["label"]: item["score"] for item in scores}
        assert [ranked[label] for label in LABELS] == pytest.approx(expected[row].tolist(), abs=1e-5)
    assert np.ptp([scores[0]["score"] for scores in results]) > 1e-4
