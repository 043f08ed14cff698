"""Features of converted encoders against those of fairseq itself, which loads the same checkpoint."""

import pytest
import torch

fairseq = pytest.importorskip("fairseq", reason="fairseq is not installed here")

from transformers import HubertModel  # noqa: E402

from speechprompt_hf.convert.encoder import convert_encoder  # noqa: E402
from speechprompt_hf.processors import UnitEncoder  # noqa: E402
from tests.fixtures.speech_encoders import waveforms  # noqa: E402
from tests.golden.make_hubert import NUM_LABELS, VARIANTS, features_of, make_model  # noqa: E402

# torch's own warnings in fairseq's old code.
pytestmark = pytest.mark.filterwarnings("ignore")
NUM_LAYERS = 12
FULL = {
    "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12,
    "conv_feature_layers": "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2",
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "final_dim": 256,
}
FULL_25_HZ = {
    **FULL,
    "conv_feature_layers": f"{FULL['conv_feature_layers']} + [(512,2,2)]",
    "conv_pos_batch_norm": True,
}
FULL_LARGE = {**FULL, "extractor_mode": "layer_norm", "conv_bias": True, "layer_norm_first": True, "normalize": True}


def saved(tmp_path, **settings):
    """A checkpoint that fairseq's own loader opens; returns its path and the model that fairseq loads from it."""
    model, cfg = make_model(seed=3, **settings)
    (tmp_path / "dict.km.txt").write_text("".join(f"{label} 1\n" for label in range(NUM_LABELS)))
    cfg["task"]["data"] = str(tmp_path)
    path = tmp_path / "hubert.pt"
    rest = {
        "optimizer_history": [{"optimizer_name": "FairseqAdam", "num_updates": 3, "lr_scheduler_state": {}}],
        "extra_state": {"train_iterator": {"epoch": 2}, "val_loss": 2.0, "epoch": 2},
        "last_optimizer_state": {},
    }
    torch.save({"args": None, "cfg": cfg, "model": model.state_dict(), **rest}, path)
    (loaded,), _, task = fairseq.checkpoint_utils.load_model_ensemble_and_task([str(path)])
    assert task.cfg.normalize == settings.get("normalize", False)
    return path, loaded.eval()


def check(tmp_path, **settings):
    path, model = saved(tmp_path, **settings)
    rows = [torch.from_numpy(row) for row in waveforms([24_011, 17_300, 9_600])]
    expected = [features_of(model, row) for row in rows]
    convert_encoder(path, tmp_path / "encoder")
    encoder, info = HubertModel.from_pretrained(tmp_path / "encoder", output_loading_info=True)
    assert not any(info.values()), info
    with torch.no_grad():
        for row, features in zip(rows, expected, strict=True):
            states = encoder.eval()(row[None], output_hidden_states=True).hidden_states
            assert len(states) == NUM_LAYERS + 1
            for layer in range(1, NUM_LAYERS + 1):
                assert (states[layer][0] - features[layer - 1]).abs().max() <= 1e-4, layer
                others = [other for other in range(NUM_LAYERS) if other != layer - 1]
                assert all((states[layer][0] - features[other]).abs().max() > 1e-2 for other in others), layer
    # Our own path: cut above the layer, and all rows in one batch.
    for layer in range(1, NUM_LAYERS + 1):
        cut = UnitEncoder.from_model(
            encoder, torch.zeros(1, encoder.config.hidden_size), layer=layer, normalization="none"
        )
        for ours, features in zip(cut.features(rows), expected, strict=True):
            assert (ours - features[layer - 1]).abs().max() <= 1e-4, layer


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_layers_are_those_of_fairseq(tmp_path, variant):
    check(tmp_path, **{"encoder_embed_dim": 48, "encoder_ffn_embed_dim": 80, **VARIANTS[variant]})


@pytest.mark.parametrize("settings", [{"activation_fn": "relu"}, {"target_glu": True}, {"conv_pos": 15}], ids=str)
def test_other_settings(tmp_path, settings):
    check(tmp_path, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [FULL, FULL_25_HZ, FULL_LARGE], ids=["base", "25hz", "pre-norm"])
def test_full_size(tmp_path, settings):
    check(tmp_path, **settings)
