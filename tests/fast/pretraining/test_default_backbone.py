"""What ships: sizes, types, and that its parts belong together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForAudioClassification, AutoModelForSeq2SeqLM, AutoProcessor, HubertModel

from speechprompt_hf.core.embedded import DEFAULT_BASE, EMBEDDED_BASES, UNIT_MBART_BASE, embedded_name, resolve_base
from speechprompt_hf.modeling.modeling_for_audio_classification import SpeechPromptForAudioClassification
from speechprompt_hf.modeling.modeling_gslm import GSLMForCausalLM
from speechprompt_hf.modeling.modeling_unit_mbart import UnitMBartForConditionalGeneration
from speechprompt_hf.pretraining.features import hidden_states
from speechprompt_hf.processors import SpeechUnitProcessor

FOLDER = Path(resolve_base(DEFAULT_BASE))
MBART_FOLDER = Path(resolve_base(UNIT_MBART_BASE))


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


def test_all_that_ships_is_under_30_megabytes():
    folders = [Path(resolve_base(name)) for name in EMBEDDED_BASES]
    assert sum(path.stat().st_size for folder in folders for path in folder.rglob("*.safetensors")) < 30e6
    assert [embedded_name(folder) for folder in folders] == list(EMBEDDED_BASES)


def test_both_architectures_are_of_equal_size_over_the_same_units():
    gslm = GSLMForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    mbart = AutoModelForSeq2SeqLM.from_pretrained(MBART_FOLDER, dtype=torch.float32)
    assert type(mbart) is UnitMBartForConditionalGeneration
    assert types_of(MBART_FOLDER / "model.safetensors") == {"F16"}
    assert abs(mbart.num_parameters() / gslm.num_parameters() - 1) < 0.05
    assert mbart.config.fingerprint["digest"] == gslm.config.fingerprint["digest"]


def test_the_unit_mbart_makes_the_default_s_units_without_an_encoder_of_its_own():
    assert not (MBART_FOLDER / "encoder").exists()
    processors = [AutoProcessor.from_pretrained(folder) for folder in (FOLDER, MBART_FOLDER)]
    units = [processor.encode_units([sound()], sampling_rate=16_000)[0].units.tolist() for processor in processors]
    assert units[0] == units[1]
    assert processors[0].fingerprint["digest"] == processors[1].fingerprint["digest"]


def test_adapters_on_the_unit_mbart_name_it_and_open(tmp_path):
    processor = AutoProcessor.from_pretrained(MBART_FOLDER)
    model = SpeechPromptForAudioClassification.from_base(UNIT_MBART_BASE, ["no", "yes"], processor=processor)
    model.save_pretrained(tmp_path)
    opened = AutoModelForAudioClassification.from_pretrained(tmp_path)
    assert opened.config.base_model_name_or_path == UNIT_MBART_BASE
    values = opened.processor.feature_extractor(sound(), sampling_rate=16_000, return_tensors="pt")
    torch.testing.assert_close(opened(**values).logits, model(**values).logits)


@pytest.mark.slow
def test_the_unit_mbart_restores_held_out_speech(shared_data):
    """It says masked utterances better than frequencies of units could."""
    import pyarrow.parquet as pq

    from speechprompt_hf.pretraining.infilling import infill

    processor = AutoProcessor.from_pretrained(MBART_FOLDER)
    model = UnitMBartForConditionalGeneration.from_pretrained(MBART_FOLDER, dtype=torch.float32)
    audio = pq.read_table(shared_data / "kathleen_en" / "validation.parquet")["audio"].to_pylist()
    generator = np.random.default_rng(0)
    losses, units = [], []
    for sequence in processor.encode_units(audio[:20]):
        tokens = np.array(processor.tokenizer.vocabulary.encode(sequence.units))
        noisy = infill(tokens, generator, model.config.vocab_size - 1, share=0.35, mean_span=3.5)
        language = model.config.language_token_id
        end = [2] if model.config.inner_eos else []
        read, said = (torch.tensor([[0, *row.tolist(), *end, language]]) for row in (noisy, tokens))
        with torch.no_grad():
            losses.append(float(model(input_ids=read, labels=said).loss))
        units.append(tokens)
    shares = np.bincount(np.concatenate(units)) / sum(map(len, units))
    unigram = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    assert np.mean(losses) < 0.5 * unigram


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
