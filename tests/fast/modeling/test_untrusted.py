"""What strangers may have put into an adapter: nothing of a claimed size is made before the claim is checked."""

import json
import pickle
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from speechprompt_hf import GSLMConfig, GSLMForCausalLM, SpeechPromptConfig, SpeechPromptForAudioClassification
from speechprompt_hf.core.errors import SpeechPromptError
from speechprompt_hf.modeling.configuration_speechprompt import FORMAT_VERSION
from speechprompt_hf.modeling.untrusted import MAX_CONFIG_BYTES, check_config_values


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    torch.manual_seed(0)
    lm = GSLMForCausalLM(
        GSLMConfig(vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    )
    lm.save_pretrained(folder / "base")
    model = SpeechPromptForAudioClassification.from_base(folder / "base", ["no", "yes"], readout="pooled")
    model.save_pretrained(folder / "adapter")
    return folder


@pytest.fixture
def adapter(saved, tmp_path):
    return shutil.copytree(saved / "adapter", tmp_path / "adapter")


def change(folder, name, **values):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def refused(folder, match):
    with pytest.raises(SpeechPromptError, match=match):
        SpeechPromptForAudioClassification.from_pretrained(folder)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"num_virtual_tokens": 10**9}, "num_virtual_tokens .* is 1000000000"),
        ({"num_virtual_tokens": 9_999}, r"prompt_embeddings has shape .* need \(9999"),
        ({"num_virtual_tokens": -1}, "num_virtual_tokens"),
        ({"num_virtual_tokens": "5"}, "num_virtual_tokens"),
        ({"vocab_size": 10**12}, "vocab_size"),
        ({"vocab_size": 1_000_000, "hidden_size": 65_536}, "vocab_size x hidden_size"),
        ({"vocab_size": 21}, "vocab_size in config.json of .* is 21, the base has 20"),
        ({"hidden_size": 32}, "hidden_size in config.json of .* is 32, the base has 16"),
        ({"num_labels": 10**9}, "num_labels"),
        ({"id2label": {"0": "a", "7": "b"}}, "id2label"),
        ({"id2label": {"x": "a"}}, "id2label"),
        ({"id2label": ["a", "b"]}, "id2label"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": None}, "weight|unit_token_of_row"),
        ({"label_sequences": "no"}, "label_sequences"),
        ({"label_sequences": [[10**30] * 200] * 2}, "label_sequences"),
        ({"id2label": {}}, "id2label"),
        ({"id2label": {"0": "a", "1": ["b"]}}, "id2label"),
        ({"label_sequences": [[0, 1] * 50] * 5_000}, "label_sequences"),
        ({"_attn_implementation": "kernels-community/rotary@" + "0" * 40}, "_attn_implementation .*not fetched"),
        ({"attn_implementation": "evil/k"}, "attn_implementation"),
        ({"dtype": "load"}, "dtype"),
        ({"torch_dtype": "os"}, "torch_dtype"),
        ({"base_fingerprint": {"foo": 1}}, "base_fingerprint"),
        ({"base_fingerprint": {"weights": "0" * 64, "dtype": "load"}}, "base_fingerprint"),
        ({"base_fingerprint": [1]}, "base_fingerprint"),
        ({"base_fingerprint": {"weights": 5}}, "base_fingerprint"),
        ({"file_sha256": ["x"]}, "file_sha256"),
        ({"unit_fingerprint": [1]}, "unit_fingerprint"),
        ({"seed": 2**70}, "seed"),
        ({"seed": "a"}, "seed"),
        ({"prompt_dropout": "x"}, "prompt_dropout"),
        ({"prompt_init_std": "x", "prompt_init": "scaled"}, "prompt_init_std"),
        ({"feedback_temperature": float("nan")}, "feedback_temperature"),
        ({"format_version": FORMAT_VERSION + 1}, "format version .*upgrade"),
        ({"method": "os.system"}, "method is"),
        ({"prompt_type": "../../x"}, "prompt_type is"),
        ({"model_type": "bert"}, "type 'bert'"),
        ({"base_model_name_or_path": "/no/such/folder", "method": "probe"}, "no folder"),
    ],
)
def test_hostile_configurations_are_refused(adapter, values, match):
    change(adapter, "config.json", **values)
    refused(adapter, match)


def test_a_configuration_of_gigabytes_is_not_read(adapter):
    (adapter / "config.json").write_text(" " * (MAX_CONFIG_BYTES + 1))
    refused(adapter, "more than")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "[" * 100_000])
def test_configurations_that_are_none_are_refused(adapter, text):
    (adapter / "config.json").write_text(text)
    refused(adapter, r"config\.json")


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "verbalizer.safetensors"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(adapter, file, value):
    tensors = load_file(adapter / file)
    name = "prompt_embeddings" if "adapter" in file else "weight"
    tensors[name][0, 0] = value
    save_file(tensors, adapter / file, {"format": "pt"})
    change(adapter, "config.json", file_sha256=None)
    refused(adapter, "not finite")


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "verbalizer.safetensors"])
def test_a_flipped_bit_is_seen(adapter, file):
    content = bytearray((adapter / file).read_bytes())
    content[-3] ^= 4
    (adapter / file).write_bytes(bytes(content))
    refused(adapter, "is not the file that .* was saved with")


@pytest.mark.parametrize("file", ["adapter_model", "verbalizer"])
def test_planted_pickles_are_never_read(adapter, tmp_path, file):
    class Planted:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    (adapter / f"{file}.safetensors").unlink()
    for name in (f"{file}.bin", "pytorch_model.bin", f"{file}.safetensors"):
        (adapter / name).write_bytes(pickle.dumps(Planted()))
        refused(adapter, "no .*safetensors|cannot be read")
    assert not (tmp_path / "executed").exists()


def test_a_base_of_pickled_weights_is_refused(saved, adapter, tmp_path):
    base = shutil.copytree(saved / "base", tmp_path / "base")
    torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    change(adapter, "adapter_config.json", base_model_name_or_path=str(base))
    refused(adapter, "safetensors")


@pytest.mark.parametrize(
    "values",
    [
        {"vocab_size": 500_000},
        {"hidden_size": 4096, "num_attention_heads": 2},
        {"num_hidden_layers": 900},
        {"max_position_embeddings": 10**12},
        {"num_hidden_layers": 10**9},
        {"intermediate_size": 99},
        {"activation_function": "nope"},
        {"activation_function": []},
        {"dropout": 7.0},
        {"pad_token_id": "1"},
        {"eos_token_id": -1},
        {"_attn_implementation": "evil/k"},
    ],
)
def test_a_base_that_claims_other_sizes_than_its_weights_is_refused(saved, adapter, tmp_path, values):
    base = shutil.copytree(saved / "base", tmp_path / "base")
    change(base, "config.json", **values)
    change(adapter, "adapter_config.json", base_model_name_or_path=str(base))
    refused(adapter, "claims|in config.json of")


def test_a_base_that_lacks_weights_is_refused(saved, adapter, tmp_path):
    base = shutil.copytree(saved / "base", tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    del tensors["model.layers.1.fc1.weight"]
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(SpeechPromptError, match=r"layers\.1\.fc1\.weight of the base .* has shape None"):
        SpeechPromptForAudioClassification.from_base(base, ["a", "b"])


def test_a_sharded_base_is_checked_as_a_whole(saved, tmp_path):
    lm = GSLMForCausalLM.from_pretrained(saved / "base")
    lm.save_pretrained(tmp_path / "base", max_shard_size="5KB")
    assert (tmp_path / "base" / "model.safetensors.index.json").exists()
    SpeechPromptForAudioClassification.from_base(tmp_path / "base", ["a", "b"])
    change(tmp_path / "base", "config.json", num_hidden_layers=3)
    with pytest.raises(SpeechPromptError, match="has shape None"):
        SpeechPromptForAudioClassification.from_base(tmp_path / "base", ["a", "b"])


@pytest.mark.parametrize("damage", ["pickle", "missing", "nan", "truncated"])
def test_a_fine_tuned_language_model_is_checked_too(saved, tmp_path, damage):
    model = SpeechPromptForAudioClassification.from_base(saved / "base", ["a", "b"], method="finetune")
    model.save_pretrained(tmp_path)
    folder = tmp_path / "language_model"
    path = folder / "model.safetensors"
    tensors = load_file(path)
    if damage == "pickle":
        torch.save(tensors, folder / "pytorch_model.bin")
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        name = "model.layers.0.fc1.weight"
        if damage == "missing":
            del tensors[name]
        else:
            tensors[name][0, 0] = float("nan")
        save_file(tensors, path, {"format": "pt"})
    refused(tmp_path, "safetensors|has shape None|cannot be read|not finite")


def test_attention_kernels_are_not_taken_from_a_file():
    for config in (GSLMConfig, SpeechPromptConfig):
        assert config.from_dict({"_attn_implementation": "evil/k"})._attn_implementation in (None, "sdpa", "eager")


def test_another_kind_of_peft_adapter_is_named(adapter):
    change(adapter, "adapter_config.json", peft_type="LORA")
    refused(adapter, "of type 'LORA', not a prompt")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


CHECKED = (
    "num_virtual_tokens",
    "vocab_size",
    "hidden_size",
    "num_labels",
    "id2label",
    "label_sequences",
    "format_version",
    "max_position_embeddings",
    "num_hidden_layers",
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(CHECKED),
        JSON,
    )
)
def test_random_values_are_accepted_or_refused_with_a_typed_error(values):
    try:
        check_config_values(values, "adapter")
    except SpeechPromptError as error:
        assert len(str(error)) < 600
