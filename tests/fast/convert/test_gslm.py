"""A fairseq language model and what is made of it give the same logits; what does not fit is refused by name."""

import json
import sys
import types
from argparse import Namespace

import pytest
import torch
from safetensors import safe_open

from speechprompt_cli.main import main
from speechprompt_hf.convert.errors import ConversionError
from speechprompt_hf.convert.gslm import convert_gslm
from speechprompt_hf.core.conversion import CONVERSION_FILE
from speechprompt_hf.core.errors import VocabularyError
from speechprompt_hf.modeling import GSLMForCausalLM
from speechprompt_hf.modeling.base_loading import base_vocabulary, load_base

UNITS = 20


def logits_of(model, num_tokens=4 + UNITS):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, num_tokens, (3, 17), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    mask[2, :5] = 0
    with torch.no_grad():
        return model(ids.masked_fill(mask == 0, 1), attention_mask=mask).logits[mask.bool()]


def opened(folder, **options):
    model, info = GSLMForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info.values()), info
    return model.eval()


def assert_same_logits(checkpoint, folder, num_tokens=4 + UNITS):
    expected = logits_of(checkpoint.model, num_tokens)[:, :num_tokens]
    # The same weights in the same modules; only fused projections could differ, and they do not.
    assert (logits_of(opened(folder), num_tokens) - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"])
def test_logits_are_those_of_the_checkpoint(checkpoint, tmp_path, options):
    result = convert_gslm(checkpoint.write(**options), tmp_path / "lm", checkpoint.dictionary())
    assert_same_logits(checkpoint, tmp_path / "lm")
    record = json.loads((tmp_path / "lm" / CONVERSION_FILE).read_text())
    assert result == {"output": str(tmp_path / "lm"), **record}
    assert record["parameters"] == checkpoint.model.num_parameters() - checkpoint.model.config.hidden_size
    assert record["keys_left_out"].keys() == {
        "decoder.version",
        "decoder.embed_positions._float_tensor",
        "decoder.output_projection.weight",
    }
    assert record["entries_left_out"] == ["args", "cfg", "extra_state", "last_optimizer_state", "optimizer_history"]
    assert sorted(path.name for path in (tmp_path / "lm").iterdir()) == [
        "config.json",
        "conversion.json",
        "dict.txt",
        "generation_config.json",
        "model.safetensors",
    ]


def test_every_setting_arrives(make_checkpoint, tmp_path):
    checkpoint = make_checkpoint(
        decoder_attention_heads=2, activation_fn="gelu", no_scale_embedding=True, max_target_positions=99, dropout=0.3
    )
    convert_gslm(checkpoint.write(), tmp_path / "lm", checkpoint.dictionary())
    config = opened(tmp_path / "lm").config
    assert (config.num_attention_heads, config.activation_function, config.scale_embedding) == (2, "gelu", False)
    assert (config.max_position_embeddings, config.dropout, config.attention_dropout) == (99, 0.3, 0.1)


def test_the_folder_is_a_base_like_any_other(checkpoint, tmp_path):
    symbols = [str(unit) for unit in torch.randperm(UNITS, generator=torch.Generator().manual_seed(0)).tolist()]
    convert_gslm(checkpoint.write(), tmp_path / "lm", checkpoint.dictionary(symbols))
    assert (tmp_path / "lm" / "dict.txt").read_bytes() == (tmp_path / "dict.txt").read_bytes()
    assert base_vocabulary(tmp_path / "lm").symbols == tuple(symbols)
    assert logits_of(load_base(str(tmp_path / "lm"))).shape[1] == 4 + UNITS


def test_the_head_count_matters(checkpoint, make_checkpoint, tmp_path):
    convert_gslm(make_checkpoint(decoder_attention_heads=2).write(), tmp_path / "lm", checkpoint.dictionary())
    assert (logits_of(opened(tmp_path / "lm")) - logits_of(checkpoint.model)).abs().max() > 0.01


def test_half_precision(checkpoint, tmp_path):
    convert_gslm(checkpoint.write(), tmp_path / "lm", checkpoint.dictionary(), dtype="float16")
    with safe_open(tmp_path / "lm" / "model.safetensors", "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    for name, tensor in weights.items():
        assert torch.equal(tensor, checkpoint.model.state_dict()[name].half())
    assert opened(tmp_path / "lm").dtype == torch.float16


def test_a_half_precision_checkpoint_becomes_float32_exactly(checkpoint, tmp_path):
    checkpoint.content["model"] = {key: value.half() for key, value in checkpoint.state.items()}
    for parameter in checkpoint.model.parameters():
        parameter.data = parameter.data.half().float()
    convert_gslm(checkpoint.write(), tmp_path / "lm", checkpoint.dictionary())
    assert_same_logits(checkpoint, tmp_path / "lm")


@pytest.mark.parametrize("listed", [True, False])
def test_padded_rows_are_left_out(make_checkpoint, tmp_path, listed):
    checkpoint = make_checkpoint(units=UNITS)  # 24 rows, as 18 units are padded to
    symbols = [str(unit) for unit in range(18)]
    dictionary = checkpoint.dictionary([*symbols, "madeupword0000", "madeupword0001"] if listed else symbols)
    result = convert_gslm(checkpoint.write(), tmp_path / "lm", dictionary)
    assert (result["units"], result["padded_rows_left_out"]) == (18, 2)
    assert opened(tmp_path / "lm").config.vocab_size == 22
    assert_same_logits(checkpoint, tmp_path / "lm", 22)


def test_legacy_keys(checkpoint, tmp_path):
    state = checkpoint.state
    for number in range(2):
        start = f"decoder.layers.{number}."
        for kind in ("weight", "bias"):
            parts = [state.pop(f"{start}self_attn.{name}_proj.{kind}") for name in "qkv"]
            state[f"{start}self_attn.in_proj_{kind}"] = torch.cat(parts)
            state[f"{start}layer_norms.0.{kind}"] = state.pop(f"{start}self_attn_layer_norm.{kind}")
            state[f"{start}layer_norms.2.{kind}"] = state.pop(f"{start}final_layer_norm.{kind}")
    del state["decoder.output_projection.weight"]
    state["decoder.embed_positions.weights"] = state.pop("decoder.embed_positions._float_tensor")
    convert_gslm(checkpoint.write(), tmp_path / "lm", checkpoint.dictionary())
    assert_same_logits(checkpoint, tmp_path / "lm")


@pytest.mark.parametrize("key", ["decoder.output_projection.weight", "decoder.embed_out"])
def test_an_untied_head(make_checkpoint, tmp_path, key):
    checkpoint = make_checkpoint(tie=False, share_decoder_input_output_embed=False)
    checkpoint.state[key] = checkpoint.state.pop("decoder.output_projection.weight")
    convert_gslm(checkpoint.write(), tmp_path / "lm", checkpoint.dictionary())
    assert_same_logits(checkpoint, tmp_path / "lm")


def test_settings_in_args(checkpoint, tmp_path):
    checkpoint.content["args"] = checkpoint.content.pop("cfg")
    convert_gslm(checkpoint.write(), tmp_path / "lm", checkpoint.dictionary())
    assert_same_logits(checkpoint, tmp_path / "lm")


def test_settings_in_a_dictionary(checkpoint, tmp_path):
    model = vars(checkpoint.content["cfg"])
    model["_name"] = model.pop("arch")
    model["tokens_per_sample"] = "${task.tokens_per_sample}"
    checkpoint.content["cfg"] = {"_name": None, "model": model, "task": {"_name": "language_modeling"}}
    convert_gslm(checkpoint.write(), tmp_path / "lm", checkpoint.dictionary())
    assert_same_logits(checkpoint, tmp_path / "lm")


def test_settings_of_omegaconf(checkpoint, tmp_path, monkeypatch):
    def put(module, name):
        kind = type(name, (), {"__module__": module})
        monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{name: kind}))
        return kind

    wrapper, node = put("omegaconf.dictconfig", "DictConfig"), put("omegaconf.nodes", "AnyNode")
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))

    def wrapped(kind, **attributes):
        made = kind()
        vars(made).update(attributes)
        return made

    def values(mapping):
        return {key: wrapped(node, _val=value, _metadata=None) for key, value in mapping.items()}

    settings = vars(checkpoint.content["cfg"])
    settings["_name"] = settings.pop("arch")
    model = wrapped(wrapper, _content=values(settings), _parent=None)
    checkpoint.content["cfg"] = wrapped(wrapper, _content={"model": model, **values({"_name": None})}, _parent=None)
    path = checkpoint.write()
    monkeypatch.undo()
    convert_gslm(path, tmp_path / "lm", checkpoint.dictionary())
    assert_same_logits(checkpoint, tmp_path / "lm")


def refuse(checkpoint, words, symbols=None):
    folder = checkpoint.folder / "lm"
    with pytest.raises(ConversionError, match=words):
        convert_gslm(checkpoint.write(), folder, checkpoint.dictionary(symbols))
    assert sorted(path.name for path in checkpoint.folder.iterdir()) == ["checkpoint_best.pt", "dict.txt"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arch": "bart_large"}, "bart_large"),
        ({"arch": ...}, "architecture None"),
        ({"arch": ..., "decoder_embed_dim": ...}, "says nothing about its model"),
        ({"decoder_attention_heads": 5}, "5 decoder_attention_heads"),
        ({"decoder_attention_heads": 0}, "decoder_attention_heads 0"),
        ({"decoder_attention_heads": True}, "decoder_attention_heads True"),
        ({"decoder_attention_heads": ...}, "decoder_attention_heads None"),
        ({"decoder_layers": 10**9}, "decoder_layers 1000000000"),
        ({"decoder_layers": 3}, r"lacks decoder\.layers\.2\."),
        ({"decoder_layers": 1}, r"holds decoder\.layers\.1\."),
        ({"decoder_embed_dim": 24, "decoder_input_dim": 24, "decoder_output_dim": 24}, r"\(24, 16\).*\(24, 24\)"),
        ({"decoder_input_dim": 24}, "decoder_input_dim 24"),
        ({"decoder_ffn_embed_dim": 64}, r"fc1\.weight.*\(40, 16\).*\(64, 16\)"),
        ({"activation_fn": "swish"}, "swish"),
        ({"adaptive_softmax_cutoff": [1, 2]}, "adaptive"),
        ({"decoder_normalize_before": False}, "decoder_normalize_before"),
        ({"no_decoder_final_norm": True}, "no_decoder_final_norm"),
        ({"decoder_learned_pos": True}, "learnt positions"),
        ({"layernorm_embedding": "maybe"}, "neither true nor false"),
        ({"dropout": 7}, "dropout 7"),
        ({"share_decoder_input_output_embed": False}, r"lacks decoder\.output_projection\.weight"),
    ],
)
def test_settings_of_other_models_are_refused(make_checkpoint, changes, words):
    checkpoint = make_checkpoint(**changes)
    if "share_decoder_input_output_embed" in changes:
        del checkpoint.state["decoder.output_projection.weight"]
    refuse(checkpoint, words)


def change(key, value):
    return lambda state: state.update({key: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("decoder.layers.1.fc2.bias"), r"lacks decoder\.layers\.1\.fc2\.bias"),
        (lambda state: state.pop("decoder.layer_norm.weight"), r"lacks decoder\.layer_norm\.weight"),
        (lambda state: state.pop("decoder.embed_tokens.weight"), r"lacks decoder\.embed_tokens\.weight"),
        (lambda state: state.pop("decoder.version"), r"decoder\.version.*None"),
        (change("decoder.version", torch.tensor([2.0])), r"decoder\.version.*2\.0"),
        (change("encoder.layers.0.fc1.bias", torch.zeros(40)), r"encoder\.layers\.0\.fc1\.bias"),
        (change("decoder.layers.0.encoder_attn.k_proj.bias", torch.zeros(16)), r"encoder_attn\.k_proj\.bias"),
        (change("decoder.layers.0.layer_norms.1.bias", torch.zeros(16)), r"layer_norms\.1\.bias"),
        (change("decoder.layers.0.layer_norms.0.bias", torch.zeros(16)), r"layer_norms\.0\.bias.*the same"),
        (change("decoder.layers.0.self_attn.in_proj_bias", torch.zeros(47)), "47 rows"),
        (change("decoder.layers.0.self_attn.in_proj_bias", torch.zeros(48)), r"in_proj_bias.*the same"),
        (change("decoder.layers.00.fc1.bias", torch.zeros(40)), r"layers\.00\.fc1\.bias"),
        (change("decoder.layers.0.fc1.weight", torch.zeros(16, 40)), r"fc1\.weight.*\(16, 40\)"),
        (change("decoder.layers.0.fc1.bias", torch.zeros(())), r"fc1\.bias.*shape"),
        (change("decoder.layers.0.fc1.bias", torch.zeros(40).long()), "int64"),
        (change("decoder.layers.0.fc1.bias", [1.0]), "no tensor"),
        (change("decoder.layers.0.fc1.bias", torch.full((40,), float("nan"))), r"fc1\.bias.*NaN"),
        (change("decoder.output_projection.weight", torch.zeros(24, 16)), r"output_projection\.weight.*differs"),
    ],
)
def test_weights_of_other_models_are_refused(checkpoint, change, words):
    change(checkpoint.state)
    refuse(checkpoint, words)


def test_values_beyond_half_precision_are_refused(checkpoint, tmp_path):
    checkpoint.state["decoder.layers.0.fc1.bias"][3] = 1e6
    path, dictionary = checkpoint.write(), checkpoint.dictionary()
    with pytest.raises(ConversionError, match=r"fc1\.bias.*beyond torch\.float16"):
        convert_gslm(path, tmp_path / "lm", dictionary, dtype="float16")
    with pytest.raises(ConversionError, match="int8"):
        convert_gslm(path, tmp_path / "lm", dictionary, dtype="int8")
    assert not (tmp_path / "lm").exists()


@pytest.mark.parametrize("num_symbols", [100, 21, 19, 12, 1])
def test_dictionaries_of_other_models_are_refused(make_checkpoint, num_symbols):
    # 13 to 20 units may stand for 24 rows. 25 rows, for 19 units, are neither 23 nor padded to a multiple of 8.
    checkpoint = make_checkpoint(units=UNITS if num_symbols != 19 else 21)
    refuse(checkpoint, f"makes {num_symbols + 4} tokens", [str(unit) for unit in range(num_symbols)])


def test_malformed_dictionaries_are_refused(checkpoint, tmp_path):
    path = checkpoint.write()
    dictionary = checkpoint.dictionary(["0", "one"])
    with pytest.raises(VocabularyError, match=r"dict\.txt.*'one'"):
        convert_gslm(path, tmp_path / "lm", dictionary)
    dictionary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConversionError, match="no dictionary of units"):
        convert_gslm(path, tmp_path / "lm", dictionary)
    dictionary.write_bytes(b"0 1\n" * 2**21 + b"0 1\n")
    with pytest.raises(ConversionError, match="8388612 bytes, more than"):
        convert_gslm(path, tmp_path / "lm", dictionary)
    with pytest.raises(ConversionError, match="no dictionary"):
        convert_gslm(path, tmp_path / "lm", tmp_path / "absent.txt")
    assert not (tmp_path / "lm").exists()


@pytest.mark.parametrize("content", [[1], {"weights": {}}, {"model": {}}, {"model": 3}])
def test_other_contents_are_refused(checkpoint, content):
    checkpoint.content = content
    refuse(checkpoint, "no weights in 'model'")


def test_a_planted_call_leaves_no_trace(checkpoint, trap, tmp_path):
    checkpoint.content["cfg"] = Namespace(**{**vars(checkpoint.content["cfg"]), "task": trap.planted})
    with pytest.raises(ConversionError, match=trap.name):
        convert_gslm(checkpoint.write(), tmp_path / "lm", checkpoint.dictionary())
    assert not trap.mark.exists() and not (tmp_path / "lm").exists()


def test_a_folder_that_is_there_is_left_alone(checkpoint, tmp_path):
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "mine.txt").write_text("mine")
    path, dictionary = checkpoint.write(), checkpoint.dictionary()
    with pytest.raises(ConversionError, match="no empty folder"):
        convert_gslm(path, tmp_path / "lm", dictionary)
    assert [each.name for each in (tmp_path / "lm").iterdir()] == ["mine.txt"]
    (tmp_path / "lm" / "mine.txt").unlink()
    convert_gslm(path, tmp_path / "lm", dictionary)
    assert_same_logits(checkpoint, tmp_path / "lm")


def test_command(checkpoint, tmp_path, capsys):
    arguments = ["convert", "gslm", str(checkpoint.write()), str(tmp_path / "lm")]
    assert main(arguments) == 2
    assert "--dict" in capsys.readouterr().err
    arguments += ["--dict", str(checkpoint.dictionary())]
    assert main([*arguments, "--overwrite"]) == 2
    capsys.readouterr()
    assert main([*arguments, "--dtype", "float16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["units"] == UNITS
    assert opened(tmp_path / "lm").dtype == torch.float16
    assert main(arguments) == 2
    assert "no empty folder" in capsys.readouterr().err
