"""`speechprompt convert` with parts of one's own: processors without a recipe, stock language models, and options."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoProcessor, HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from speechprompt_hf import SpeechUnitProcessor, UnitEncoder
from speechprompt_hf.convert.causal_lm import wrap_causal_lm
from speechprompt_hf.core.embedded import DEFAULT_BASE, resolve_base
from speechprompt_hf.processors.quantizer import Quantizer
from tests.fixtures.stock_unit_lms import OFFSET, ROWS, UNITS, save_slamkit, save_twist, stock_model

WIDTH = 16
KINDS = {
    "encoder": 1,
    "quantizer": 1,
    "processor": 3,
    "gslm": 1,
    "causal-lm": 1,
    "base": 2,
    "unit-mbart": 1,
    "hifigan": 1,
    "prompt": 1,
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """An encoder of transformers and centroids of its second layer, as many as a stock language model has units."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    HubertModel(config).save_pretrained(folder / "encoder")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder / "encoder")
    Quantizer(torch.randn(UNITS, WIDTH), {"source": "mine.bin"}).save(folder / "km" / "quantizer.safetensors")
    save_twist(stock_model("opt"), folder / "twist")
    # Without its last row, which TWIST's table would count as a unit.
    config = json.loads((folder / "twist" / "config.json").read_text())
    assert config["vocab_size"] - config["offset"] == UNITS + 1
    return folder


@pytest.fixture
def convert(speechprompt):
    def run(*arguments):
        return speechprompt("convert", *arguments)

    return run


def ok(answer):
    assert answer.code == 0, answer.err
    return answer


def refused(answer):
    assert answer.code == 2, answer.out + answer.err
    assert answer.out == "" and "Traceback" not in answer.err
    return " ".join(answer.err.replace("│", " ").split())


# Processors


@pytest.mark.parametrize("given", ["km", "km/quantizer.safetensors"])
@pytest.mark.parametrize("layer", [0, 2, 3])
def test_an_encoder_and_a_quantizer_of_ones_own_make_a_processor(convert, parts, tmp_path, given, layer):
    arguments = ["mine", parts / "encoder", parts / given, tmp_path / "processor", "--layer", layer]
    answer = ok(convert("processor", *arguments))
    assert answer.out == f"{tmp_path / 'processor'}\t{UNITS} units\tlayer {layer} of encoder\n"
    assert "published" not in answer.err
    processor = AutoProcessor.from_pretrained(tmp_path / "processor")
    # Put together by hand, out of the same parts.
    centroids = load_file(parts / "km" / "quantizer.safetensors")["centroids"]
    encoder = UnitEncoder.from_model(
        HubertModel.from_pretrained(parts / "encoder"),
        centroids,
        layer=layer,
        normalization="zero_mean_unit_variance",
    )
    expected = SpeechUnitProcessor.from_unit_encoder(encoder)
    assert processor.fingerprint["digest"] == expected.fingerprint["digest"]
    wave = [torch.randn(8000, generator=torch.Generator().manual_seed(1)).numpy()]
    assert processor(wave, sampling_rate=16_000)["input_ids"] == expected(wave, sampling_rate=16_000)["input_ids"]


def test_the_scaling_is_read_said_or_asked_for(convert, parts, tmp_path):
    bare = shutil.copytree(parts / "encoder", tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    arguments = ["processor", "mine", bare, parts / "km", tmp_path / "processor", "--layer", 2]
    message = refused(convert(*arguments))
    assert "nothing says how recordings are scaled" in message and "give the normalization" in message
    assert not (tmp_path / "processor").exists()
    assert ok(convert(*arguments, "--normalization", "none", "--json")).json["normalization"] == "none"
    (bare / "conversion.json").write_text('{"normalization": "unit_rms", "source": "best.pt"}')
    arguments[4] = tmp_path / "again"
    assert "'none', but the checkpoint" in refused(convert(*arguments, "--normalization", "none"))
    made = ok(convert(*arguments, "--json")).json
    assert (made["normalization"], made["encoder"]) == ("unit_rms", "best")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        # The quantizer first, whatever else is wrong.
        (["mine", "absent", "no-km", "new", "--layer", 2], "there is no quantizer no-km -> give the folder"),
        (["hubert-base-km100", "absent", "no-km", "new"], "there is no quantizer no-km"),
        (["mine", "absent", "km", "new", "--layer", 2], "there is no folder absent"),
        (["mine", "encoder", "km.bin", "new", "--layer", 2], "speechprompt convert quantizer km.bin NEW_FOLDER"),
        (["mine", "encoder", "encoder", "new", "--layer", 2], "has no quantizer.safetensors"),
        (["mine", "encoder", "km", "new", "--layer", 4], "has 3 layers, mine needs features of layer 4"),
        (["mine", "encoder", "km", "new", "--layer", -1], "--layer"),
        (["mine", "twist", "km", "new", "--layer", 2], "is 'opt' -> mine needs a HuBERT"),
        (["hubert-base-km100", "encoder", "km", "new", "--layer", 2], "is the name of published units"),
        (["hubert-base-km100", "encoder", "km", "new", "--normalization", "none"], "belongs to --layer"),
        (["mine", "encoder", "km", "new"], "for units of your own say their layer"),
    ],
)
def test_mistakes_about_parts_are_named(convert, parts, tmp_path, monkeypatch, arguments, words):
    for name in ("encoder", "km", "twist"):
        (tmp_path / name).symlink_to(parts / name)
    (tmp_path / "km.bin").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert words in refused(convert("processor", *arguments))
    assert not (tmp_path / "new").exists()


# Stock language models


def test_a_stock_language_model_becomes_a_base(convert, parts, tmp_path):
    answer = ok(convert("causal-lm", parts / "twist", tmp_path / "base", "--num-units", UNITS, "--json"))
    expected = wrap_causal_lm(parts / "twist", tmp_path / "expected", num_units=UNITS)
    assert {name: answer.json[name] for name in ("units", "unit_offset", "parameters", "architecture")} == {
        name: expected[name] for name in ("units", "unit_offset", "parameters", "architecture")
    }
    assert {path.name for path in (tmp_path / "base").iterdir()} == {
        path.name for path in (tmp_path / "expected").iterdir()
    }
    for name in ("model.safetensors", "config.json", "dict.txt", "conversion.json"):
        assert (tmp_path / "base" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()


def test_every_argument_of_the_function_has_an_option(convert, tmp_path):
    save_twist(stock_model("gpt2"), tmp_path / "lm", offset=None)
    assert "has no offset" in refused(convert("causal-lm", tmp_path / "lm", tmp_path / "base"))
    options = ["--unit-offset", OFFSET, "--num-units", UNITS, "--start-token-id", 1, "--end-token-id", 2]
    answer = ok(convert("causal-lm", tmp_path / "lm", tmp_path / "base", *options, "--dtype", "float16", "--json"))
    given = {"unit_offset": OFFSET, "units": UNITS, "start_token_id": 1, "end_token_id": 2, "dtype": "float16"}
    assert {name: answer.json[name] for name in given} == given
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert model.dtype == torch.float16 and model.config.has_start_token


def test_tokens_that_are_not_used_are_a_note(convert, tmp_path):
    model = stock_model("llama", bos_token_id=1, eos_token_id=2)
    save_twist(model, tmp_path / "lm", offset=None)
    answer = ok(convert("causal-lm", tmp_path / "lm", tmp_path / "base", "--unit-offset", OFFSET))
    assert "which are not used" in answer.err and "UserWarning" not in answer.err
    assert answer.out.startswith(f"{tmp_path / 'base'}\t{ROWS - OFFSET} units\t")


def test_with_a_processor_it_reads_recordings(convert, parts, tmp_path):
    ok(convert("processor", "mine", parts / "encoder", parts / "km", tmp_path / "processor", "--layer", 2))
    options = ["--processor", tmp_path / "processor"]
    # One unit more than the quantizer has: the table's last row.
    message = refused(convert("causal-lm", parts / "twist", tmp_path / "base", *options))
    assert f"{parts / 'twist'} has {UNITS + 1} units" in message and f"makes {UNITS}" in message
    assert {path.name for path in tmp_path.iterdir()} == {"processor"}
    made = ok(convert("causal-lm", parts / "twist", tmp_path / "base", *options, "--num-units", UNITS, "--json")).json
    processor = AutoProcessor.from_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert made["digest"] == processor.fingerprint["digest"] == model.config.fingerprint["digest"]
    # The two steps one after the other give the same.
    ok(convert("causal-lm", parts / "twist", tmp_path / "lm", "--num-units", UNITS))
    ok(convert("base", tmp_path / "lm", tmp_path / "processor", tmp_path / "joined"))
    files = {path.relative_to(tmp_path / "base") for path in (tmp_path / "base").rglob("*") if path.is_file()}
    joined = tmp_path / "joined"
    assert files == {path.relative_to(joined) for path in joined.rglob("*") if path.is_file()}
    assert all((tmp_path / "base" / name).read_bytes() == (joined / name).read_bytes() for name in files)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("absent", [], "there is no folder absent"),
        ("bert", [], "bert"),
        ("twist", ["--unit-offset", 7], "unit_offset is 7, but twist has offset 3"),
        ("twist", ["--processor", "absent"], "there is no folder absent -> give what speechprompt convert"),
    ],
)
def test_what_cannot_be_wrapped_is_named(convert, parts, tmp_path, monkeypatch, source, options, words):
    (tmp_path / "twist").symlink_to(parts / "twist")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    monkeypatch.chdir(tmp_path)
    assert words in refused(convert("causal-lm", source, "new", *options))
    assert {path.name for path in tmp_path.iterdir()} == {"twist", "bert"}


@pytest.mark.parametrize("kind", ["twist", "slam", "opt"])
def test_base_of_a_stock_language_model_names_the_right_sub_command(convert, parts, tmp_path, kind):
    if kind == "slam":
        save_slamkit(stock_model("qwen2"), tmp_path / "slam")
    else:
        save_twist(stock_model("opt"), tmp_path / kind, offset=OFFSET if kind == "twist" else None)
    message = refused(convert("base", tmp_path / kind, resolve_base(DEFAULT_BASE), tmp_path / "base"))
    command = f"speechprompt convert causal-lm {tmp_path / kind} NEW_FOLDER --processor PROCESSOR"
    assert "holds a language model of transformers" in message and command in message


def test_base_names_what_is_missing(convert, tmp_path):
    processor = resolve_base(DEFAULT_BASE)
    assert "there is no folder" in refused(convert("base", tmp_path / "absent", processor, tmp_path / "new"))
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "config.json").write_text('{"model_type": "gslm"}')
    message = refused(convert("base", tmp_path / "lm", processor, tmp_path / "new"))
    assert "has no dict.txt -> give what speechprompt convert gslm, unit-mbart or causal-lm wrote" in message


# Options


@pytest.mark.parametrize("kind", KINDS)
def test_private_without_push_is_refused(convert, tmp_path, kind):
    places = [*["a"] * KINDS[kind], tmp_path / "new", *(["--base", "b"] if kind == "prompt" else [])]
    message = refused(convert(kind, *places, "--private"))
    assert "--private" in message and "it belongs to --push REPOSITORY" in message


@pytest.mark.parametrize("arguments", [["list"], *([kind, "--list"] for kind in KINDS)])
def test_the_list_is_where_the_message_says(convert, arguments):
    assert "the names are shown by: speechprompt convert --list" in refused(convert(*arguments))


def test_long_lists_of_what_was_left_out_are_short(convert, tmp_path, capsys):
    from speechprompt_cli.commands.convert_work import Delivery, finish

    record = {
        "keys_left_out": {f"key{index}": "a reason" for index in range(100)},
        "entries_left_out": ["one", "two"],
        "units": 3,
    }
    finish(record, "done", tmp_path / "lm", Delivery(None, False, True))
    printed = json.loads(capsys.readouterr().out)
    assert printed == {
        "keys_left_out": {f"key{index}": "a reason" for index in range(5)},
        "num_keys_left_out": 100,
        "entries_left_out": ["one", "two"],
        "num_entries_left_out": 2,
        "units": 3,
        "record": str(tmp_path / "lm" / "conversion.json"),
    }
    finish(record, "done", tmp_path / "lm", Delivery(None, False, False))
    printed = capsys.readouterr()
    assert printed.out == "done\n"
    assert printed.err == f"left out: 100 keys (key0, key1, key2, key3, key4, …); why: {tmp_path}/lm/conversion.json\n"
