"""Untouched stock language models as bases: which doors hold, which do not, and what says that units are not known."""

import json

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModel, AutoModelForAudioClassification, AutoModelForCausalLM

from speechprompt_hf.convert.causal_lm import wrap_causal_lm
from speechprompt_hf.core.errors import AdapterError, ConfigurationError
from speechprompt_hf.modeling import SpeechPromptForAudioClassification, UnitCausalLMForCausalLM
from speechprompt_hf.modeling.base_loading import base_fingerprint, load_base
from speechprompt_hf.modeling.stock_unit_lm import read_stock_unit_lm
from tests.fixtures.stock_unit_lms import ROWS, save_slamkit, save_twist, stock_model
from tests.fixtures.tiny_models import PEFT_WARNING, RAGGED_ROWS, pad

pytestmark = [
    pytest.mark.filterwarnings(PEFT_WARNING),
    pytest.mark.filterwarnings("ignore:.*token_id must be"),
    # PEFT 0.21 hands stock models their cache under its old name.
    pytest.mark.filterwarnings("ignore:.*past_key_values:FutureWarning"),
]
IDS, MASK = pad(RAGGED_ROWS)
SPECIAL = {"model_type": "qwen2", "pad_token_id": 0, "bos_token_id": 1}


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    return save_twist(stock_model("qwen2"), tmp_path_factory.mktemp("stock"))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["qwen3", "opt_350m", "gpt2"])
def test_the_base_in_memory_is_the_wrapped_folder(kind, tmp_path):
    save_twist(stock_model(kind), tmp_path / "stock")
    wrap_causal_lm(tmp_path / "stock", tmp_path / "base")
    ours, wrapped = load_base(tmp_path / "stock"), load_base(tmp_path / "base")
    assert torch.equal(ours(IDS, MASK).logits, wrapped(IDS, MASK).logits)
    assert base_fingerprint(ours) == base_fingerprint(wrapped)
    assert ours.generation_config.suppress_tokens == wrapped.generation_config.suppress_tokens == [0, 1, 2, 3]


@torch.no_grad()
def test_slamkits_folder_is_a_base_with_a_start_token(tmp_path):
    model = stock_model("qwen2")
    lm = load_base(save_slamkit(model, tmp_path / "slam"))
    assert isinstance(lm, UnitCausalLMForCausalLM) and lm.config.has_start_token
    assert lm.num_units == ROWS - 2
    bare = model(torch.tensor([[1, 2 + 5, 2 + 9, 1]])).logits[0, :, 2:]
    assert (lm(torch.tensor([[2, 4 + 5, 4 + 9, 0]])).logits[0, :, 4:] - bare).abs().max() < 3e-5
    assert lm.generation_config.suppress_tokens == [0, 1, 3]


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["deep", pytest.param("input", marks=pytest.mark.slow)])
def test_doors_of_an_adapter_on_an_untouched_base(stock, tmp_path, prompt):
    """The table in the documentation."""
    model = SpeechPromptForAudioClassification.from_base(stock, ["a", "b"], prompt=prompt, num_virtual_tokens=3)
    folder = tmp_path / "adapter"
    model.save_pretrained(folder)
    expected = model(IDS, MASK).logits
    for door in (SpeechPromptForAudioClassification, AutoModel, AutoModelForAudioClassification):
        assert torch.equal(door.from_pretrained(folder)(IDS, MASK).logits, expected)
    steered = model.lm(IDS, MASK, prompt=model.prompt.states(model.lm)).logits
    for opened in (AutoModelForCausalLM.from_pretrained(folder), PeftModel.from_pretrained(load_base(stock), folder)):
        logits = opened(input_ids=IDS, attention_mask=MASK).logits[:, -IDS.shape[1] :]
        assert (logits - steered)[MASK.bool()].abs().max() < 3e-5
    # Stock PEFT on the stock model knows neither separator nor positions nor the order of tokens: another model.
    for opened in (
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(stock), folder),
        AutoPeftModelForCausalLM.from_pretrained(folder),
    ):
        assert opened(input_ids=IDS % ROWS, attention_mask=MASK).logits.shape[-1] == ROWS != steered.shape[-1]
    with pytest.raises(ValueError, match="does not support prompt learning"):
        type(stock_model("qwen2")).from_pretrained(str(stock), adapter_kwargs={"_adapter_model_path": str(folder)})
    wrap_causal_lm(stock, tmp_path / "base")
    moved = SpeechPromptForAudioClassification.from_pretrained(folder, base=tmp_path / "base")
    assert torch.equal(moved(IDS, MASK).logits, expected)


def test_a_stock_model_whose_units_are_not_known_is_refused(tmp_path):
    folder = save_twist(stock_model("opt"), tmp_path, offset=None)
    with pytest.raises(AdapterError, match=r"stock opt whose config.json names no offset .*wrap_causal_lm"):
        load_base(folder)


def test_a_stock_model_in_pickles_is_refused_unopened(stock, tmp_path):
    (tmp_path / "config.json").write_text((stock / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"no pickle at all")
    with pytest.raises(AdapterError, match=r"without safetensors.*wrap_causal_lm"):
        load_base(tmp_path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"offset": -1}, "offset of .* is -1"),
        ({"offset": "3"}, "offset of .* is 3"),
        ({"offset": 10**7}, "offset of .* is 10000000"),
        ({"offset": ROWS}, "the token of unit 0 lies 1 behind the last one of"),
        ({"vocab_size": ROWS + 5}, f"has {ROWS} rows, {ROWS + 5} are needed"),
        ({"hidden_size": 64}, "has shape"),
        ({"hidden_size": 10**8}, "lm_config.hidden_size"),
        ({"num_hidden_layers": 3, "layer_types": None}, "lacks the weight layers.2"),
        ({"num_hidden_layers": 1, "layer_types": None}, "is no weight of qwen2"),
        ({"hidden_act": "evil"}, "activation"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "qwen2"),
        ({"use_sliding_window": True}, "visible to every token"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layers of sliding_attention"),
        ({"tie_word_embeddings": False}, "lacks the weight lm_head.weight"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(stock, tmp_path, changes, match):
    values = json.loads((stock / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, **changes}))
    (tmp_path / "model.safetensors").symlink_to(stock / "model.safetensors")
    with pytest.raises((AdapterError, ConfigurationError), match=match):
        load_base(tmp_path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"base_config": None}, "no base_config"),
        ({"base_config": {"model_type": "bert"}}, "'bert' cannot be wrapped"),
        ({"base_config": {"model_type": "qwen2"}}, "which token is unit 0 is not known"),
        ({"vocab_size": 10**7}, "vocab_size"),
        ({"base_config": {**SPECIAL, "eos_token_id": 151_643}}, "eos_token_id of .* is 151643, but vocab_size is 30"),
        ({"base_config": {**SPECIAL, "eos_token_id": [2]}}, r"eos_token_id in .* is \[2\]"),
    ],
)
def test_what_slamkits_files_lack_is_said(tmp_path, changes, match):
    folder = save_slamkit(stock_model("qwen2"), tmp_path / "slam")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **changes}))
    with pytest.raises((AdapterError, ConfigurationError), match=match):
        load_base(folder)


def test_slamkits_tokeniser_file_says_which_tokens_are_units(tmp_path):
    folder = save_slamkit(stock_model("qwen2"), tmp_path / "slam")
    said = {"dedup": True, "bos_eos_token_id": 3, "pad_token_id": 0, "num_units": 20, "load_fe": False}
    (folder / "tokeniser_config.json").write_text(json.dumps(said))
    assert load_base(folder).num_units == 20


def test_the_end_token_of_slamkit_is_no_unit():
    values = {
        "model_type": "speech_language_model",
        "vocab_size": 503,
        "base_config": {"model_type": "qwen2", "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    }
    stock = read_stock_unit_lm(values, "slam")
    assert (stock.unit_offset, stock.num_units) == (3, 500)
    assert (stock.pad_token_id, stock.start_token_id, stock.end_token_id) == (0, 1, 2)


@torch.no_grad()
def test_the_separator_starts_as_the_end_token(tmp_path):
    model = stock_model("qwen2")
    folder = save_slamkit(model, tmp_path / "slam")
    values = json.loads((folder / "config.json").read_text())
    values["base_config"]["eos_token_id"] = 2
    (folder / "config.json").write_text(json.dumps(values))
    lm = load_base(folder)
    own = model.get_input_embeddings().weight
    assert lm.num_units == ROWS - 3
    assert torch.equal(lm.get_input_embeddings().weight[[0, 1, 2, 4]], own[[2, 0, 1, 3]])


def in_shards(folder, **names):
    """The weights under other names, with an index that lists them."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


@pytest.mark.parametrize(
    "part", ["../stock/model.safetensors", "/etc/model.safetensors", "a\\b.safetensors", "..", "model.bin", 3, None]
)
def test_shards_outside_the_folder_are_refused(tmp_path, part):
    folder = save_twist(stock_model("qwen2"), tmp_path / "base")
    save_twist(stock_model("qwen2"), tmp_path / "stock")
    in_shards(folder, a="model-00001-of-00001.safetensors", b=part)
    with pytest.raises(AdapterError, match=r"weight_map in .* is no object of file names"):
        load_base(folder)


def test_a_missing_shard_is_named(tmp_path):
    folder = save_twist(stock_model("qwen2"), tmp_path / "base")
    in_shards(folder, a="model-00001-of-00001.safetensors", b="model-00002-of-00001.safetensors")
    with pytest.raises(AdapterError, match=r"lacks model-00002-of-00001\.safetensors.*completely"):
        load_base(folder)


def test_the_hint_names_the_command_line(tmp_path):
    folder = save_twist(stock_model("opt"), tmp_path, offset=None)
    with pytest.raises(AdapterError, match=r"speechprompt train --base and push-base take a folder"):
        load_base(folder)
