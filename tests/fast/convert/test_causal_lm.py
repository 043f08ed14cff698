"""Language models of TWIST, slamkit and their kin become bases with the same logits; what does not fit is refused."""

import hashlib
import json
import pickle
import random
import warnings

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from speechprompt_hf.convert.causal_lm import wrap_causal_lm
from speechprompt_hf.convert.errors import ConversionError
from speechprompt_hf.convert.stock_weights import open_stock_weights
from speechprompt_hf.core.conversion import CONVERSION_FILE
from speechprompt_hf.modeling import UnitCausalLMForCausalLM
from speechprompt_hf.modeling.base_loading import base_vocabulary, load_base
from tests.fixtures.stock_unit_lms import OFFSET, ROWS, UNITS, save_slamkit, save_twist, stock_model

WRITTEN = ["config.json", "conversion.json", "dict.txt", "generation_config.json", "model.safetensors"]
TOLERANCE = 3e-5


@pytest.fixture
def twist(tmp_path):
    model = stock_model("opt")
    return model, save_twist(model, tmp_path / "twist")


def pickled(model, folder, shards=1, **options):
    """The same folder with weights as torch.save writes them, in one file or in several."""
    (folder / "model.safetensors").unlink()
    state = list(model.state_dict().items())
    if shards == 1:
        torch.save(dict(state), folder / "pytorch_model.bin", **options)
        return
    names = {}
    for number in range(shards):
        part = dict(state[number::shards])
        name = f"pytorch_model-{number + 1:05d}-of-{shards:05d}.bin"
        torch.save(part, folder / name, **options)
        names |= dict.fromkeys(part, name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def assert_same_logits(model, folder, offset=OFFSET, units=UNITS + 1, start=()):
    lm, info = UnitCausalLMForCausalLM.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    assert not any(info.values()), info
    said = torch.randint(0, units, (2, 11), generator=torch.Generator().manual_seed(1))
    first = torch.tensor(start, dtype=torch.long).expand(2, -1)
    with torch.no_grad():
        expected = model(torch.cat([first, said + offset], 1)).logits[:, len(start) :, offset : offset + units]
        logits = lm.eval()(torch.cat([torch.full((2, 1), 2), said + 4], 1)).logits
    assert logits.shape[-1] == units + 4
    assert (logits[:, 1:, 4:] - expected).abs().max() < TOLERANCE
    return lm, logits


def test_twists_folder(twist, tmp_path):
    model, folder = twist
    result = wrap_causal_lm(folder, tmp_path / "base")
    lm, logits = assert_same_logits(model, tmp_path / "base")
    assert sorted(path.name for path in (tmp_path / "base").iterdir()) == WRITTEN
    record = json.loads((tmp_path / "base" / CONVERSION_FILE).read_text())
    assert result == {"output": str(tmp_path / "base"), **record}
    assert record["unit_offset"] == OFFSET and record["unit_offset_from"] == "offset in config.json"
    assert (record["units"], record["rows_left_out"], record["start_token_id"]) == (UNITS + 1, OFFSET, None)
    assert record["dropouts_set_to_0"] == ["dropout", "layerdrop"]
    assert base_vocabulary(tmp_path / "base").symbols == tuple(str(unit) for unit in range(UNITS + 1))
    assert not lm.config.has_start_token and lm.generation_config.suppress_tokens == [0, 1, 2, 3]
    # Tokens that the model lacks: the mean of units, finite and never highest.
    assert (logits[..., :4] - logits[..., 4:].mean(-1, keepdim=True)).abs().max() < 1e-4


def test_slamkits_folder(tmp_path):
    model = stock_model("qwen2")
    result = wrap_causal_lm(save_slamkit(model, tmp_path / "slam"), tmp_path / "base")
    lm, logits = assert_same_logits(model, tmp_path / "base", offset=2, units=ROWS - 2, start=[1])
    assert (result["kind"], result["architecture"], result["unit_offset"]) == ("slamkit", "qwen2", 2)
    assert result["unit_offset_from"] == "special tokens in config.json"
    assert lm.config.has_start_token and lm.config.tie_word_embeddings
    # Start and separator are the model's own token before and after an utterance.
    embedding, own = lm.get_input_embeddings().weight, model.get_input_embeddings().weight
    assert torch.equal(embedding[[0, 1, 2]], own[[1, 0, 1]])
    assert torch.equal(logits[..., 0], logits[..., 2])


@pytest.mark.parametrize("options", [{}, {"shards": 3}, {"_use_new_zipfile_serialization": False}], ids=str)
def test_pickled_weights(twist, tmp_path, options):
    model, folder = twist
    pickled(model, folder, **options)
    result = wrap_causal_lm(folder, tmp_path / "base")
    assert_same_logits(model, tmp_path / "base")
    assert result["keys_left_out"] == {"lm_head.weight": "the embedding, once more"}


def test_sharded_safetensors(twist, tmp_path):
    model, folder = twist
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="10kB")
    assert (folder / "model.safetensors.index.json").is_file()
    wrap_causal_lm(folder, tmp_path / "base")
    assert_same_logits(model, tmp_path / "base")


def test_half_precision_in_and_out(twist, tmp_path):
    _, folder = twist
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").eval()
    save_twist(model, folder)
    wrap_causal_lm(folder, tmp_path / "base", dtype="float16")
    with safe_open(tmp_path / "base" / "model.safetensors", "pt") as file:
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"F16"}  # noqa: SIM118
    lm = load_base(tmp_path / "base")
    own = model.get_input_embeddings().weight.float()
    assert (lm.get_input_embeddings().weight[4:] - own[OFFSET:]).abs().max() < 1e-3


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "opt_350m"])
def test_an_offset_that_the_caller_knows(kind, tmp_path):
    model = stock_model(kind)
    save_twist(model, tmp_path / "stock", offset=None)
    with pytest.raises(ConversionError, match=r"has no offset: .* not known .*pass unit_offset"):
        wrap_causal_lm(tmp_path / "stock", tmp_path / "base")
    result = wrap_causal_lm(tmp_path / "stock", tmp_path / "base", unit_offset=2, num_units=20, start_token_id=1)
    assert_same_logits(model, tmp_path / "base", offset=2, units=20, start=[1])
    assert (result["unit_offset_from"], result["rows_left_out"]) == ("unit_offset", ROWS - 20 - 1)


def test_tokens_around_an_utterance_are_those_that_the_caller_names(tmp_path):
    model = stock_model("llama", bos_token_id=0, eos_token_id=1, pad_token_id=2)
    save_twist(model, tmp_path / "stock", offset=None)
    with pytest.warns(UserWarning, match=r"names \{'bos_token_id': 0, 'eos_token_id': 1\}, which are not"):
        plain = wrap_causal_lm(tmp_path / "stock", tmp_path / "plain", unit_offset=3)
    assert plain["special_tokens_not_used"] == {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    assert (plain["start_token_id"], plain["end_token_id"], plain["rows_left_out"]) == (None, None, 3)
    assert_same_logits(model, tmp_path / "plain", offset=3, units=27)
    with pytest.warns(UserWarning, match=r"names \{'eos_token_id': 1\}, which are not used: .*--end-token-id"):
        half = wrap_causal_lm(tmp_path / "stock", tmp_path / "half", unit_offset=3, start_token_id=0)
    assert (half["start_token_id"], half["end_token_id"]) == (0, 0)
    result = wrap_causal_lm(
        tmp_path / "stock", tmp_path / "base", unit_offset=3, num_units=25, start_token_id=0, end_token_id=1
    )
    lm, _ = assert_same_logits(model, tmp_path / "base", offset=3, units=25, start=[0])
    # Two rows are of the tokens around an utterance; left out are that of the padding and the last two.
    assert (result["rows_left_out"], result["special_tokens_not_used"]) == (3, {"pad_token_id": 2})
    assert torch.equal(lm.get_input_embeddings().weight[[0, 2]], model.get_input_embeddings().weight[[1, 0]])


def test_defaults_of_an_architecture_are_no_tokens_where_they_are_units(twist, tmp_path):
    model, folder = twist
    model.config.eos_token_id = model.config.bos_token_id = OFFSET + 1
    save_twist(model, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert wrap_causal_lm(folder, tmp_path / "base")["special_tokens_not_used"] == {
            "bos_token_id": OFFSET + 1,
            "eos_token_id": OFFSET + 1,
            "pad_token_id": 1,
        }


def test_buffers_of_older_versions_are_left_out(twist, tmp_path):
    model = stock_model("llama")
    folder = save_twist(model, tmp_path / "llama")
    state = {**load_file(folder / "model.safetensors"), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    result = wrap_causal_lm(folder, tmp_path / "base")
    assert result["keys_left_out"] == {"model.layers.0.self_attn.rotary_emb.inv_freq": "computed, not trained"}
    assert_same_logits(model, tmp_path / "base")


def damaged(folder, **changes):
    path = folder / "model.safetensors"
    state = {key: value.clone() for key, value in load_file(path).items()}
    for key, value in changes.items():
        name = next(name for name in state if name.endswith(key.replace("__", ".")))
        if value is None:
            del state[name]
        else:
            state[name] = value(state[name])
    save_file(state, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f: damaged(f, fc1__bias=None), r"lacks the weight decoder.layers.\d.fc1.bias, of shape \(48,\)"),
        (lambda f: damaged(f, fc1__bias=lambda v: v[:3]), r"fc1.bias in .* has shape \(3,\), its config.json needs"),
        (lambda f: damaged(f, fc1__bias=lambda v: v * torch.nan), "fc1.bias in .* holds NaN"),
        (lambda f: damaged(f, fc1__bias=lambda v: v.long()), "fc1.bias in .* is of type torch.int64"),
        (lambda f: damaged(f, embed_tokens__weight=lambda v: v[:9]), "has 9 rows, 30 are needed"),
        (lambda f: damaged(f, embed_tokens__weight=lambda v: v[0]), "has shape"),
        (lambda f: (f / "model.safetensors").unlink(), "has no weights"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "cannot be read"),
        (lambda f: (f / "config.json").write_text("{"), "is not valid JSON"),
        (lambda f: (f / "config.json").unlink(), "there is no .*config.json"),
        (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "'bert' cannot be wrapped"),
    ],
)
def test_damaged_folders_are_refused_and_leave_nothing(twist, tmp_path, change, match):
    change(twist[1])
    with pytest.raises(ConversionError, match=match):
        wrap_causal_lm(twist[1], tmp_path / "base")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["twist"]


def test_unknown_and_contradicting_weights_are_refused(twist, tmp_path):
    model, folder = twist
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for changes, match in (
        ({"score.weight": torch.ones(2)}, "score.weight in .* is no weight of opt"),
        ({"lm_head.weight": state["lm_head.weight"] + 1}, "lm_head.weight in .* differs from"),
        ({"decoder.layers.0.fc1.bias": torch.ones(48)}, "are one weight"),
    ):
        save_file({**state, **changes}, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ConversionError, match=match):
            wrap_causal_lm(folder, tmp_path / "base")


def test_options_that_contradict_the_files_are_refused(twist, tmp_path):
    folder = twist[1]
    slam = save_slamkit(stock_model("qwen2"), tmp_path / "slam")
    for source, options, match in (
        (folder, {"unit_offset": 4}, "unit_offset is 4, but .* has offset 3"),
        (folder, {"num_units": 28}, "has 27 tokens from that of unit 0 on, not 28 units"),
        (folder, {"start_token_id": 99}, r"start_token_id is 99, but .* has 30 rows.*0 to 29"),
        (folder, {"start_token_id": OFFSET}, f"start_token_id of .* is {OFFSET}, which is unit 0"),
        (folder, {"end_token_id": OFFSET + 2}, f"end_token_id of .* is {OFFSET + 2}, which is unit 2"),
        (slam, {"end_token_id": 0}, "end_token_id is 0, but .* says 1"),
        (folder, {"dtype": "int8"}, "dtype is 'int8'"),
        (slam, {"unit_offset": 3}, "unit_offset is 3, but the special tokens in config.json of .* make it 2"),
        (slam, {"start_token_id": 2}, "start_token_id is 2, but .* says 1"),
        (tmp_path / "nothing", {}, "there is no folder"),
    ):
        with pytest.raises(ConversionError, match=match):
            wrap_causal_lm(source, tmp_path / "base", **options)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "mine").touch()
    with pytest.raises(ConversionError, match="exists and is no empty folder"):
        wrap_causal_lm(folder, tmp_path / "base")


def test_values_beyond_half_precision_are_refused(twist, tmp_path):
    damaged(twist[1], fc1__bias=lambda v: v + 1e6)
    with pytest.raises(ConversionError, match=r"beyond torch\.float16"):
        wrap_causal_lm(twist[1], tmp_path / "base", dtype="float16")


def test_an_index_that_leaves_the_folder_is_refused(twist, tmp_path):
    folder = twist[1]
    (folder / "model.safetensors").unlink()
    for names in ({"a": "../secret.safetensors"}, {"a": "x.bin"}, {"a": 3}, ["a"]):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
        with pytest.raises(ConversionError, match="no object of file names"):
            wrap_causal_lm(folder, tmp_path / "base")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    with pytest.raises(ConversionError, match=r"lacks gone\.safetensors"):
        wrap_causal_lm(folder, tmp_path / "base")


@pytest.mark.parametrize("shards", [0, 1, 3])
def test_every_file_of_weights_is_recorded_by_its_digest(twist, tmp_path, shards):
    model, folder = twist
    if shards:
        pickled(model, folder, shards)
    result = wrap_causal_lm(folder, tmp_path / "base")
    files = [path for path in folder.iterdir() if path.suffix in (".bin", ".safetensors")]
    assert len(files) == max(shards, 1)
    assert result["source_sha256"] == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("shards", [0, 1])
def test_rows_are_those_of_the_tensor(twist, shards):
    if shards:
        pickled(*twist)
    with open_stock_weights(twist[1]) as tensors:
        tensor = tensors["model.decoder.embed_tokens.weight"]
        assert torch.equal(tensor.rows(3, 7), tensor.read()[3:7])


def test_a_planted_call_is_refused_and_does_not_run(twist, tmp_path, trap, would_run):
    folder = twist[1]
    assert would_run(pickle.dumps(trap.planted))
    (folder / "model.safetensors").unlink()
    torch.save({"model.decoder.embed_tokens.weight": torch.ones(2), "x": trap.planted}, folder / "pytorch_model.bin")
    with pytest.raises(ConversionError, match=trap.name):
        wrap_causal_lm(folder, tmp_path / "base")
    assert not trap.mark.exists()


def test_fuzzed_folders_give_typed_errors_and_no_half_written_folder(twist, tmp_path):
    """Bytes of every file changed at random: a whole base, or an error that says what is wrong."""
    model, folder = twist
    generator = random.Random(0)
    kept = {path: path.read_bytes() for path in (folder / "config.json", folder / "model.safetensors")}
    refused = 0
    for number in range(60):
        path = generator.choice(list(kept))
        content = bytearray(kept[path])
        head = min(len(content), 4000)  # where headers and settings are
        for _ in range(generator.randint(1, 4)):
            content[generator.randrange(head)] = generator.randrange(256)
        path.write_bytes(content[: generator.choice([len(content), generator.randrange(len(content))])])
        try:
            wrap_causal_lm(folder, tmp_path / f"base {number}")
        except ConversionError as error:
            refused += 1
            assert str(error)
            assert not (tmp_path / f"base {number}").exists()
        path.write_bytes(kept[path])
    assert refused > 30
    assert not list(tmp_path.glob(".*"))
    wrap_causal_lm(folder, tmp_path / "base")
    assert_same_logits(model, tmp_path / "base")
