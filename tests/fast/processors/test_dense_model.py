import pytest
import torch
from transformers import AutoModel, HubertConfig, HubertForCTC, WhisperFeatureExtractor

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.processors.dense_model import WaveDenseModel
from speechprompt_hf.processors.loading import dense_model_from, load_dense_model
from tests.fixtures.speech_encoders import NUM_LAYERS, WAVE_ENCODERS, wave_encoder, waveforms, whisper_encoder

LENGTHS = [16000, 12345, 4000, 400 + 320]


def hidden_states(model, wave, layer):
    with torch.no_grad():
        return model(torch.from_numpy(wave)[None], output_hidden_states=True).hidden_states[layer][0]


def relative_error(actual, expected):
    return float((actual - expected).norm() / expected.norm())


@pytest.mark.parametrize("kind", WAVE_ENCODERS)
@pytest.mark.parametrize("layer", range(NUM_LAYERS + 1))
def test_features_equal_hidden_states_of_the_whole_model(kind, layer):
    model = wave_encoder(kind)
    waves = waveforms(LENGTHS)
    expected = [hidden_states(model, wave, layer) for wave in waves]
    with torch.inference_mode():
        features = dense_model_from(model, layer).extract([torch.from_numpy(wave) for wave in waves])
    for actual, reference in zip(features, expected, strict=True):
        assert actual.shape == reference.shape
        # float32 rounding of another order of sums; another layer gives more than 0.05 (below).
        assert relative_error(actual, reference) < 5e-6


@pytest.mark.parametrize("kind", WAVE_ENCODERS)
def test_the_neighbouring_layer_is_far_away(kind):
    model = wave_encoder(kind)
    (wave,) = waveforms([16000])
    with torch.inference_mode():
        (features,) = dense_model_from(model, 1).extract([torch.from_numpy(wave)])
    assert relative_error(features, hidden_states(model, wave, 2)) > 0.05
    assert relative_error(features, hidden_states(model, wave, 0)) > 0.05


def test_final_norm_of_a_pre_norm_encoder_is_not_applied():
    model = wave_encoder("hubert_large")
    (wave,) = waveforms([16000])
    with torch.inference_mode():
        (features,) = dense_model_from(model, NUM_LAYERS).extract([torch.from_numpy(wave)])
        last = model(torch.from_numpy(wave)[None]).last_hidden_state[0]
    assert relative_error(features, last) > 0.05


@pytest.mark.parametrize("layer", range(NUM_LAYERS + 1))
def test_whisper_features_equal_hidden_states_of_the_encoder(layer):
    model = whisper_encoder()
    waves = waveforms([32000, 17000, 320, 5000])
    mel = WhisperFeatureExtractor(feature_size=20, chunk_length=2)
    with torch.inference_mode():
        features = dense_model_from(model, layer).extract([torch.from_numpy(wave) for wave in waves])
        for wave, actual in zip(waves, features, strict=True):
            inputs = mel(wave, sampling_rate=16000, return_tensors="pt").input_features
            states = model.encoder(inputs, output_hidden_states=True).hidden_states[layer][0]
            assert len(actual) == len(wave) // 320
            assert relative_error(actual, states[: len(actual)]) < 5e-6


@pytest.mark.parametrize("kind", ["hubert_base", "hubert_large", "wavlm_base", "hubert_two_convolutions"])
def test_saved_encoder_is_cut_and_loads_with_auto_model(kind, tmp_path):
    dense_model = dense_model_from(wave_encoder(kind), 2)
    rows = [torch.from_numpy(wave) for wave in waveforms(LENGTHS)]
    dense_model.save(tmp_path / "encoder")
    stock = AutoModel.from_pretrained(tmp_path / "encoder")
    assert len(stock.encoder.layers) == 2
    again = load_dense_model(str(tmp_path), "encoder", 2, {})
    assert again.sha256 == dense_model.sha256
    with torch.inference_mode():
        for one, other in zip(dense_model.extract(rows), again.extract(rows), strict=True):
            assert torch.equal(one, other)
    assert relative_error(again.extract(rows)[0], hidden_states(stock, rows[0].numpy(), 2)) < 5e-6


@pytest.mark.parametrize("layer", [1, NUM_LAYERS])
def test_saved_whisper_encoder_keeps_its_hidden_states(layer, tmp_path):
    dense_model = dense_model_from(whisper_encoder(), layer)
    rows = [torch.from_numpy(wave) for wave in waveforms([32000, 5000])]
    dense_model.save(tmp_path / "encoder")
    again = load_dense_model(str(tmp_path), "encoder", layer, {})
    assert again.sha256 == dense_model.sha256
    with torch.inference_mode():
        for one, other in zip(dense_model.extract(rows), again.extract(rows), strict=True):
            assert torch.equal(one, other)


def test_layer_0_is_saved_without_any_transformer_layer(tmp_path):
    dense_model = dense_model_from(wave_encoder("hubert_base"), 0)
    dense_model.save(tmp_path / "encoder")
    again = load_dense_model(str(tmp_path), "encoder", 0, {})
    rows = [torch.from_numpy(wave) for wave in waveforms([8000])]
    assert torch.equal(again.extract(rows)[0], dense_model.extract(rows)[0])
    assert again.sha256 == dense_model.sha256


def test_the_given_model_keeps_its_layers_and_its_forward():
    model = wave_encoder("hubert_large")
    (wave,) = waveforms([16000])
    before = model(torch.from_numpy(wave)[None]).last_hidden_state
    dense_model_from(dense_model_from(model, 1), 1)
    dense_model_from(model, 2)
    assert len(model.encoder.layers) == model.config.num_hidden_layers == NUM_LAYERS
    assert torch.equal(before, model(torch.from_numpy(wave)[None]).last_hidden_state)


def test_hash_ignores_layers_above_and_half_precision_storage(tmp_path):
    model = wave_encoder("hubert_base").half()
    model.save_pretrained(tmp_path / "whole")
    whole = AutoModel.from_pretrained(tmp_path / "whole", dtype=torch.float16)
    cut = dense_model_from(whole, 2)
    cut.save(tmp_path / "encoder")
    assert load_dense_model(str(tmp_path), "encoder", 2, {}).sha256 == cut.sha256
    assert load_dense_model(str(tmp_path), "whole", 2, {}).sha256 == cut.sha256


def test_hash_notices_weights_layer_and_architecture():
    hashes = {dense_model_from(wave_encoder("hubert_base"), 2).sha256}
    hashes.add(dense_model_from(wave_encoder("hubert_base"), 1).sha256)
    hashes.add(dense_model_from(wave_encoder("hubert_base", seed=1), 2).sha256)
    changed = wave_encoder("hubert_base")
    with torch.no_grad():
        changed.encoder.layers[1].final_layer_norm.bias[3] += 1e-6
    hashes.add(dense_model_from(changed, 2).sha256)
    other = wave_encoder("hubert_base")
    other.config.hidden_act = "relu"
    hashes.add(dense_model_from(other, 2).sha256)
    assert len(hashes) == 5


def test_models_around_an_encoder_are_accepted():
    model = wave_encoder("hubert_base")
    around = HubertForCTC(HubertConfig(**{**model.config.to_dict(), "vocab_size": 10}))
    assert isinstance(dense_model_from(around, 1), WaveDenseModel)


@pytest.mark.parametrize("layer", [-1, NUM_LAYERS + 1])
def test_layers_that_do_not_exist_are_refused(layer):
    with pytest.raises(ConfigurationError, match=f"layer {layer} of an encoder with 3 layers"):
        dense_model_from(wave_encoder("hubert_base"), layer)


def test_other_models_are_refused():
    from transformers import GPT2Config, GPT2Model

    with pytest.raises(ConfigurationError, match="gpt2"):
        dense_model_from(GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=9)), 0)


def test_a_folder_without_encoder_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"has no encoder/config\.json"):
        load_dense_model(str(tmp_path), "encoder", 1, {})
