"""HuBERTs of fairseq and what is made of them give the same features; what does not fit is refused by name."""

import json
from argparse import Namespace
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.cluster import KMeans
from transformers import AutoFeatureExtractor, AutoModel, AutoProcessor, HubertModel

from speechprompt_hf.convert.encoder import convert_encoder
from speechprompt_hf.convert.errors import ConversionError
from speechprompt_hf.core.conversion import CONVERSION_FILE
from speechprompt_hf.processors import UnitEncoder
from speechprompt_hf.processors.quantizer import QUANTIZER_FILE, Quantizer
from tests.golden.hubert import NUM_LAYERS, VARIANTS, WIDTH, hubert_checkpoint

FILES = ["config.json", "conversion.json", "model.safetensors", "preprocessor_config.json"]


@pytest.fixture
def write(tmp_path):
    """Writes a checkpoint."""
    return lambda checkpoint, **options: checkpoint.write(tmp_path / "hubert.pt", **options)


def opened(folder) -> HubertModel:
    model, info = HubertModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


@torch.no_grad()
def assert_same_features(checkpoint, folder, tolerance=1e-5):
    states = opened(folder)(checkpoint.waveform[None], output_hidden_states=True).hidden_states
    assert len(states) == NUM_LAYERS + 1
    for layer in range(1, NUM_LAYERS + 1):
        assert (states[layer][0] - checkpoint.features[layer - 1]).abs().max() <= tolerance, layer


@pytest.mark.parametrize(
    ("variant", "options"),
    [*((variant, {}) for variant in VARIANTS), ("base", {"_use_new_zipfile_serialization": False})],
    ids=[*VARIANTS, "legacy"],
)
def test_features_are_those_of_fairseq(tmp_path, write, variant, options):
    checkpoint = hubert_checkpoint(variant)
    result = convert_encoder(write(checkpoint, **options), tmp_path / "encoder")
    assert_same_features(checkpoint, tmp_path / "encoder")
    assert sorted(path.name for path in (tmp_path / "encoder").iterdir()) == FILES
    record = json.loads((tmp_path / "encoder" / CONVERSION_FILE).read_text())
    assert result == {"output": str(tmp_path / "encoder"), **record}


@pytest.mark.parametrize("variant", VARIANTS)
def test_our_own_path_counts_layers_as_fairseq_does(tmp_path, write, variant):
    checkpoint = hubert_checkpoint(variant)
    convert_encoder(write(checkpoint), tmp_path / "encoder")
    model = AutoModel.from_pretrained(tmp_path / "encoder", dtype=torch.float32)
    short = checkpoint.waveform[:2000]
    for layer in (1, 2, 6, 11, 12):
        encoder = UnitEncoder.from_model(model, torch.zeros(1, WIDTH), layer=layer, normalization="none")
        features, _ = encoder.features([checkpoint.waveform, short])  # in one batch
        assert (features - checkpoint.features[layer - 1]).abs().max() <= 1e-5, layer
        for other in {layer - 1, layer + 1} & set(range(1, NUM_LAYERS + 1)):
            assert (features - checkpoint.features[other - 1]).abs().max() > 1e-2, (layer, other)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layer", [1, 9])
def test_an_encoder_cut_above_a_layer(tmp_path, write, variant, layer):
    checkpoint = hubert_checkpoint(variant)
    result = convert_encoder(write(checkpoint), tmp_path / "encoder", layer=layer)
    model = opened(tmp_path / "encoder")
    assert model.config.num_hidden_layers == result["layers"] == layer
    encoder = UnitEncoder.from_model(model, torch.zeros(1, WIDTH), layer=layer, normalization="none")
    assert (encoder.features([checkpoint.waveform])[0] - checkpoint.features[layer - 1]).abs().max() <= 1e-5
    above = {key for key, why in result["keys_left_out"].items() if why == f"above layer {layer}"}
    assert len(above) == 16 * (NUM_LAYERS - layer)
    assert all(int(key.split(".")[2]) >= layer for key in above)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_key_is_placed_or_has_a_reason(tmp_path, write, variant):
    checkpoint = hubert_checkpoint(variant)
    result = convert_encoder(write(checkpoint), tmp_path / "encoder")
    heads = {"final_proj.weight", "final_proj.bias", "label_embs_concat"}
    counter = {"encoder.pos_conv.0.num_batches_tracked"} if variant == "25hz" else set()
    assert result["keys_left_out"].keys() == heads | counter
    written = load_file(tmp_path / "encoder" / "model.safetensors")
    assert len(written) == len(checkpoint.state) - len(heads)
    assert torch.equal(written["masked_spec_embed"], checkpoint.state["mask_emb"])
    placed = sum(value.numel() for key, value in checkpoint.state.items() if key not in heads | counter)
    assert result["parameters"] == placed
    assert result["entries_left_out"] == sorted(checkpoint.content.keys() - {"model"})


def test_what_the_record_says(tmp_path, write):
    for variant, rate, samples, normalization in (
        ("base", 50.0, 400, "none"),
        ("large", 50.0, 400, "zero_mean_unit_variance"),
        ("25hz", 25.0, 720, "none"),
    ):
        result = convert_encoder(write(hubert_checkpoint(variant)), tmp_path / variant)
        assert (result["frame_rate"], result["min_samples"], result["normalization"]) == (rate, samples, normalization)
        extractor = AutoFeatureExtractor.from_pretrained(tmp_path / variant)
        assert extractor.do_normalize is (variant == "large") and extractor.sampling_rate == 16000


def test_every_setting_arrives(tmp_path, write):
    checkpoint = hubert_checkpoint("large")
    checkpoint.set(
        activation_fn="relu",
        encoder_attention_heads=4,
        dropout=0.3,
        attention_dropout=0.2,
        activation_dropout=0.4,
        dropout_input=0.05,
        encoder_layerdrop=0.15,
    )
    convert_encoder(write(checkpoint), tmp_path / "encoder")
    config = opened(tmp_path / "encoder").config
    assert (config.hidden_act, config.num_attention_heads, config.feat_extract_norm) == ("relu", 4, "layer")
    assert (config.hidden_dropout, config.attention_dropout, config.activation_dropout) == (0.3, 0.2, 0.4)
    assert (config.feat_proj_dropout, config.layerdrop, config.do_stable_layer_norm) == (0.05, 0.15, True)
    with pytest.raises(AssertionError):
        assert_same_features(checkpoint, tmp_path / "encoder")


def test_settings_in_args(tmp_path, write):
    checkpoint = hubert_checkpoint("large")
    cfg = checkpoint.content["cfg"]
    values = {**cfg["task"], **cfg["model"], "arch": "hubert", "task": "hubert_pretraining"}
    del values["_name"]
    checkpoint.content |= {"cfg": None, "args": Namespace(**values)}
    result = convert_encoder(write(checkpoint), tmp_path / "encoder")
    assert_same_features(checkpoint, tmp_path / "encoder")
    assert result["normalization"] == "zero_mean_unit_variance"


def test_what_fairseq_has_as_default_may_be_absent(tmp_path, write):
    checkpoint = hubert_checkpoint()
    for key in (
        "extractor_mode",
        "conv_bias",
        "layer_norm_first",
        "conv_pos_batch_norm",
        "layer_type",
        "activation_fn",
    ):
        checkpoint.set(**{key: ...})
    checkpoint.set("task", normalize=..., sample_rate=...)
    convert_encoder(write(checkpoint), tmp_path / "encoder")
    assert_same_features(checkpoint, tmp_path / "encoder")


@pytest.mark.parametrize(
    "text",
    [
        "[(6,10,5)]+[(6,3,2)]*4+[(6,2,2)]*2",
        "[(6, 10, 5), (6, 3, 2)] + 3 * [(6, 3, 2)] + [(6, 2, 2), (6, 2, 2),]",
        "[(6, 10, 5), (6, 3, 2), (6, 3, 2), (6, 3, 2), (6, 3, 2), (6, 2, 2), (6, 2, 2)]",
    ],
)
def test_spellings_of_the_convolutions(tmp_path, write, text):
    checkpoint = hubert_checkpoint()
    checkpoint.set(conv_feature_layers=text)
    convert_encoder(write(checkpoint), tmp_path / "encoder")
    assert_same_features(checkpoint, tmp_path / "encoder")


def test_weight_norm_as_newer_torch_spells_it(tmp_path, write):
    checkpoint = hubert_checkpoint()
    for number, kind in enumerate("gv"):
        value = checkpoint.state.pop(f"encoder.pos_conv.0.weight_{kind}")
        checkpoint.state[f"encoder.pos_conv.0.parametrizations.weight.original{number}"] = value
    convert_encoder(write(checkpoint), tmp_path / "encoder")
    assert_same_features(checkpoint, tmp_path / "encoder")


def test_half_precision(tmp_path, write):
    checkpoint = hubert_checkpoint("25hz")
    convert_encoder(write(checkpoint), tmp_path / "encoder", dtype="float16")
    with safe_open(tmp_path / "encoder" / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118 - no mapping
    assert opened(tmp_path / "encoder").dtype == torch.float16
    checkpoint.content["model"] = {
        key: value.half() if value.is_floating_point() else value for key, value in checkpoint.state.items()
    }
    convert_encoder(write(checkpoint), tmp_path / "from_half")
    states = load_file(tmp_path / "from_half" / "model.safetensors")
    assert all(torch.equal(states[name], value.float()) for name, value in _halves(tmp_path / "encoder").items())


def _halves(folder):
    return load_file(folder / "model.safetensors")


def kmeans(features: np.ndarray, num_units: int = 5) -> KMeans:
    return KMeans(num_units, n_init=1, random_state=0).fit(features)


@pytest.mark.parametrize("kind", ["joblib", "folder", "file"])
def test_with_a_quantizer_it_is_a_processor(tmp_path, write, kind):
    checkpoint = hubert_checkpoint()
    features = checkpoint.features[5].numpy()
    model = kmeans(features)
    joblib.dump(model, tmp_path / "km.bin")
    source = {"joblib": tmp_path / "km.bin", "folder": tmp_path / "km", "file": tmp_path / "km" / QUANTIZER_FILE}[kind]
    if kind != "joblib":
        Quantizer(torch.from_numpy(model.cluster_centers_)).save(tmp_path / "km" / QUANTIZER_FILE)
    result = convert_encoder(write(checkpoint), tmp_path / "processor", quantizer=source, layer=6)
    processor = AutoProcessor.from_pretrained(tmp_path / "processor")
    assert processor.fingerprint["digest"] == result["digest"]
    assert (result["units"], processor.unit_encoder.description.encoder_id) == (5, "hubert")
    inputs = processor([checkpoint.waveform.numpy()], sampling_rate=16000, return_units=True)
    assert np.array_equal(inputs["frame_units"][0], model.predict(features))
    assert sorted(path.name for path in (tmp_path / "processor" / "encoder").iterdir()) == FILES
    assert opened(tmp_path / "processor" / "encoder").config.num_hidden_layers == 6


def test_a_processor_in_half_precision_has_the_fingerprint_of_what_is_in_the_file(tmp_path, write):
    checkpoint = hubert_checkpoint()
    joblib.dump(kmeans(checkpoint.features[5].numpy()), tmp_path / "km.bin")
    path = write(checkpoint)
    convert_encoder(path, tmp_path / "half", quantizer=tmp_path / "km.bin", layer=6, dtype="float16")
    assert {value.dtype for value in _halves(tmp_path / "half" / "encoder").values()} == {torch.float16}
    AutoProcessor.from_pretrained(tmp_path / "half").unit_encoder.load()
    whole = convert_encoder(path, tmp_path / "whole", quantizer=tmp_path / "km.bin", layer=6)
    assert AutoProcessor.from_pretrained(tmp_path / "half").fingerprint["digest"] != whole["digest"]


def test_a_quantizer_that_does_not_fit_leaves_nothing(tmp_path, write):
    path = write(hubert_checkpoint(num_layers=6))
    joblib.dump(kmeans(np.random.RandomState(0).randn(50, WIDTH + 1)), tmp_path / "wide.bin")
    (tmp_path / "damaged.bin").write_bytes(b"\x80\x04nothing")
    for options, words in (
        ({"quantizer": tmp_path / "wide.bin", "layer": 6}, r"have size 9, the encoder's features 8"),
        ({"quantizer": tmp_path / "damaged.bin", "layer": 6}, r"damaged\.bin"),
        ({"quantizer": tmp_path / "absent.bin", "layer": 6}, r"absent\.bin"),
        ({"quantizer": tmp_path / "wide.bin"}, "without the layer"),
    ):
        with pytest.raises(ConversionError, match=words):
            convert_encoder(path, tmp_path / "processor", **options)
        assert not (tmp_path / "processor").exists()


def small_checkpoint():
    """Of two layers, for what is refused."""
    return hubert_checkpoint(num_layers=2)


def refuse(checkpoint, folder: Path, words: str, **options) -> None:
    path = checkpoint.write(folder / "hubert.pt")
    with pytest.raises(ConversionError, match=words):
        convert_encoder(path, folder / "encoder", **options)
    assert [each.name for each in folder.iterdir()] == ["hubert.pt"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"_name": "wav2vec2"}, "architecture 'wav2vec2' instead of 'hubert'"),
        ({"_name": "hubert_ctc"}, "hubert_ctc"),
        ({"_name": ...}, "architecture None"),
        ({"_name": ..., "encoder_embed_dim": ...}, "says nothing about its model"),
        ({"encoder_layers": 3}, r"lacks encoder\.layers\.2\.self_attn\.k_proj\.weight"),
        ({"encoder_layers": 1}, r"holds encoder\.layers\.1\."),
        ({"encoder_layers": 10**9}, "encoder_layers 1000000000"),
        ({"encoder_attention_heads": 3}, "3 encoder_attention_heads do not divide"),
        ({"encoder_attention_heads": ...}, "encoder_attention_heads None"),
        ({"encoder_embed_dim": 16}, r"mask_emb.*\(8,\), the settings need \(16,\)"),
        ({"encoder_ffn_embed_dim": 16}, r"fc1\.weight.*\(12, 8\), the settings need \(16, 8\)"),
        ({"conv_pos": 32}, r"pos_conv\.0\.weight_g.*\(1, 1, 16\), the settings need \(1, 1, 32\)"),
        ({"conv_pos": True}, "conv_pos True"),
        ({"conv_pos_groups": 4}, r"pos_conv\.0\.weight_v.*\(8, 4, 16\), the settings need \(8, 2, 16\)"),
        ({"conv_pos_groups": 3}, "3 conv_pos_groups do not divide"),
        ({"conv_pos_batch_norm": True}, r"holds encoder\.pos_conv\.0\.weight_g"),
        ({"conv_bias": True}, r"lacks feature_extractor\.conv_layers\.0\.0\.bias"),
        ({"conv_bias": "yes"}, "conv_bias 'yes'"),
        ({"extractor_mode": "layer_norm"}, r"holds feature_extractor\.conv_layers\.0\.2\."),
        ({"extractor_mode": "conformer"}, "extractor_mode 'conformer'"),
        ({"activation_fn": "swish"}, "activation_fn 'swish'"),
        ({"layer_type": "conformer"}, "layer_type 'conformer': other layers"),
        ({"pos_conv_depth": 5}, "pos_conv_depth 5: several positional convolutions"),
        ({"attn_type": "espnet"}, "attn_type 'espnet'"),
        ({"dropout": 2}, "dropout 2"),
        ({"conv_feature_layers": "[(8,10,5)]"}, "no projection is between them"),
        ({"conv_feature_layers": "[(6,10,5)] * 2"}, r"holds feature_extractor\.conv_layers\.2\."),
        (
            {"conv_feature_layers": "[(6,9,5)] + [(6,3,2)] * 4 + [(6,2,2)] * 2"},
            r"conv_layers\.0\.0\.weight.*\(6, 1, 9\)",
        ),
        ({"conv_feature_layers": "[(6,10,5)] * 99"}, "99 convolutions"),
        ({"conv_feature_layers": "[(6,10,5)] * 0"}, "0 convolutions"),
        ({"conv_feature_layers": "[(6,0,5)]"}, r"convolution \(6, 0, 5\)"),
        ({"conv_feature_layers": "__import__('os').system('true')"}, "conv_feature_layers"),
        ({"conv_feature_layers": "(" * 900}, "conv_feature_layers"),
        ({"conv_feature_layers": "[(6,10,5)] + " * 500}, "conv_feature_layers"),
        ({"conv_feature_layers": 7}, "conv_feature_layers 7"),
        ({"conv_feature_layers": [(6, 10, 5)]}, "conv_feature_layers list"),
    ],
    ids=str,
)
def test_settings_of_other_models_are_refused(tmp_path, settings, words):
    checkpoint = small_checkpoint()
    checkpoint.set(**settings)
    refuse(checkpoint, tmp_path, words)


def test_other_sampling_rates_are_refused(tmp_path):
    checkpoint = small_checkpoint()
    checkpoint.set("task", sample_rate=8000)
    refuse(checkpoint, tmp_path, "sample_rate 8000")


@pytest.mark.parametrize("layer", [0, -1, 3])
def test_layers_that_are_not_there_are_refused(tmp_path, layer):
    refuse(small_checkpoint(), tmp_path, f"layer {layer} of .* has 2 layers", layer=layer)


def changed(checkpoint, key, value):
    if value is ...:
        del checkpoint.state[key]
    else:
        checkpoint.state[key] = value
    return checkpoint


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("mask_emb", ..., "lacks mask_emb"),
        ("post_extract_proj.bias", ..., r"lacks post_extract_proj\.bias"),
        ("encoder.layer_norm.weight", ..., r"lacks encoder\.layer_norm\.weight"),
        ("encoder.layers.1.fc2.bias", ..., r"lacks encoder\.layers\.1\.fc2\.bias"),
        ("feature_extractor.conv_layers.0.2.bias", ..., r"lacks feature_extractor\.conv_layers\.0\.2\.bias"),
        ("encoder.pos_conv.0.weight_v", ..., r"lacks encoder\.pos_conv\.0\.weight_v"),
        ("w2v_encoder.proj.weight", torch.zeros(3, 8), r"holds w2v_encoder\.proj\.weight.*fine-tuned"),
        ("decoder.embed_tokens.weight", torch.zeros(3, 8), r"holds decoder\.embed_tokens\.weight"),
        ("encoder.pos_conv.0.num_batches_tracked", torch.tensor(3), "num_batches_tracked"),
        (
            "encoder.pos_conv.0.parametrizations.weight.original0",
            torch.zeros(1, 1, 16),
            r"both encoder\.pos_conv\.0\.weight_g and .*original0",
        ),
        ("layer_norm.weight", torch.zeros(7), r"layer_norm\.weight.*\(7,\), the settings need \(6,\)"),
        ("layer_norm.weight", torch.full((6,), float("nan")), r"layer_norm\.weight.*NaN"),
        ("layer_norm.weight", torch.zeros(6, dtype=torch.int64), r"layer_norm\.weight.*int64, no weight"),
        ("layer_norm.weight", 3.0, r"layer_norm\.weight in 'model', which is no tensor"),
    ],
)
def test_keys_that_do_not_fit_are_refused(tmp_path, key, value, words):
    refuse(changed(small_checkpoint(), key, value), tmp_path, words)


def test_values_beyond_half_precision_are_refused(tmp_path):
    checkpoint = changed(small_checkpoint(), "layer_norm.weight", torch.full((6,), 1e6))
    refuse(checkpoint, tmp_path, r"layer_norm\.weight.*beyond torch\.float16", dtype="float16")
    refuse(checkpoint, tmp_path, "dtype is 'int8'", dtype="int8")


@pytest.mark.parametrize("content", [[1], {"weights": {}}, {"model": {}}, {"model": 3}])
def test_other_contents_are_refused(tmp_path, content):
    checkpoint = small_checkpoint()
    checkpoint.content = content
    refuse(checkpoint, tmp_path, "no weights in 'model'")


def test_a_planted_call_leaves_no_trace(tmp_path, trap):
    checkpoint = small_checkpoint()
    checkpoint.set("task", data=trap.planted)
    torch.save(checkpoint.content, tmp_path / "hubert.pt")
    with pytest.raises(ConversionError, match=trap.name):
        convert_encoder(tmp_path / "hubert.pt", tmp_path / "encoder")
    assert not trap.mark.exists() and not (tmp_path / "encoder").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path, write, share):
    path = write(small_checkpoint())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ConversionError, match=r"hubert\.pt"):
        convert_encoder(path, tmp_path / "encoder")
    assert [each.name for each in tmp_path.iterdir()] == ["hubert.pt"]


def test_a_folder_that_is_there_is_left_alone(tmp_path, write):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "mine.txt").write_text("mine")
    with pytest.raises(ConversionError, match="no empty folder"):
        convert_encoder(write(small_checkpoint()), tmp_path / "encoder")
    assert [each.name for each in (tmp_path / "encoder").iterdir()] == ["mine.txt"]
