"""What ships: sizes, types, and that its parts belong together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import HubertModel

from speechprompt_hf.core.embedded import DEFAULT_BASE, resolve_base
from speechprompt_hf.modeling.modeling_gslm import GSLMForCausalLM
from speechprompt_hf.pretraining.features import hidden_states
from speechprompt_hf.processors import SpeechUnitProcessor

FOLDER = Path(resolve_base(DEFAULT_BASE))


def types_of(path):
    with safe_open(path, "pt") as file:
        return {str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118 - no mapping


def sound(seconds=1.5):
    generator = np.random.default_rng(0)
    return (0.1 * generator.standard_normal(int(16_000 * seconds))).astype(np.float32)


def test_weights_are_half_precision_and_under_15_megabytes():
    weights = list(FOLDER.rglob("*.safetensors"))
    assert len(weights) == 3
    assert sum(path.stat().st_size for path in weights) < 15e6
    assert types_of(FOLDER / "model.safetensors") == types_of(FOLDER / "encoder" / "model.safetensors") == {"F16"}
    assert types_of(FOLDER / "quantizer.safetensors") == {"F32"}


def test_plain_transformers_loads_the_encoder_and_gives_the_same_features():
    processor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
    encoder = HubertModel.from_pretrained(FOLDER / "encoder", dtype=torch.float32)
    layer = processor.unit_encoder.description.layer
    plain = hidden_states(encoder, [sound()], [layer])[0][0]
    values = processor.feature_extractor(sound(), sampling_rate=16_000, return_tensors="pt")["input_values"]
    ours = processor.unit_encoder.features(values)[0]
    torch.testing.assert_close(ours, torch.from_numpy(plain), atol=2e-3, rtol=1e-3)


def test_language_model_knows_the_units_it_was_trained_on():
    processor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
    model = GSLMForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    assert model.config.fingerprint["digest"] == processor.fingerprint["digest"]
    assert model.config.vocab_size == 104


@pytest.mark.slow
def test_language_model_predicts_held_out_speech(shared_data):
    """The language model predicts held-out speech better than frequencies of units could."""
    import pyarrow.parquet as pq

    from speechprompt_hf.pretraining.gslm_pretraining import evaluate_loss, make_rows

    processor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
    audio = pq.read_table(shared_data / "kathleen_en" / "validation.parquet")["audio"].to_pylist()
    units = [sequence.units for sequence in processor.encode_units(audio)]
    shares = np.bincount(np.concatenate(units), minlength=100) / sum(map(len, units))
    unigram = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    model = GSLMForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    loss = evaluate_loss(model, make_rows(units, processor.tokenizer.vocabulary, max_tokens=512))
    assert loss < 0.7 * unigram
