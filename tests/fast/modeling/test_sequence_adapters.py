"""Adapters that say sequences: files, doors, what damaged and hostile ones are answered with."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForAudioClassification, AutoModelForSpeechSeq2Seq

from speechprompt_hf.core.errors import (
    AdapterError,
    ConfigurationError,
    FingerprintMismatchError,
    LabelError,
    SpeechPromptError,
)
from speechprompt_hf.core.output_patterns import BLANKS
from speechprompt_hf.data.sequence_rows import task_tokenizer
from speechprompt_hf.decoding import generate_hypotheses, grammar_of_sequences, stream_text
from speechprompt_hf.evaluation.saying import say
from speechprompt_hf.modeling import (
    SpeechPromptConfig,
    SpeechPromptForAudioClassification,
    SpeechPromptForSequenceGeneration,
)
from speechprompt_hf.processors import build_output_tokenizer
from speechprompt_hf.tasks import slot_filling
from tests.fixtures.sequence_models import UTTERANCES, make_sequence_model, pad_labels, tiny_base, tiny_tokenizer
from tests.fixtures.tiny_models import PEFT_WARNING, pad, tiny_lm

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)
LABELS = pad_labels([[5, 2], [6, 7, 2], [2], [8, 2]])


@pytest.fixture(scope="module", params=["gslm", "mbart", pytest.param("opt", marks=pytest.mark.slow)])
def base(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    lm, _ = tiny_base(request.param, folder / "made")
    lm.save_pretrained(folder / "base")
    return folder / "base"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    tiny_lm(seed=10).save_pretrained(folder / "base")
    model = SpeechPromptForSequenceGeneration.from_base(folder / "base", tiny_tokenizer(), num_virtual_tokens=3)
    model.save_pretrained(folder / "adapter")
    return folder


@pytest.fixture
def adapter(saved, tmp_path):
    return shutil.copytree(saved / "adapter", tmp_path / "adapter")


def answers(model):
    ids, mask = pad(UTTERANCES)
    with torch.no_grad():
        loss = model(ids, mask, labels=LABELS).loss
    return model.generate(input_ids=ids, attention_mask=mask, num_beams=2).tolist(), loss


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


OPTIONS = [
    {},
    {"prompt": "input", "label_feedback": "mixture"},
    {"verbalizer": "random"},
    {"method": "finetune"},
]
FRESH = """
import json, sys, torch
from transformers import AutoModelForSpeechSeq2Seq
import speechprompt_hf
model = AutoModelForSpeechSeq2Seq.from_pretrained(sys.argv[1])
said = model.generate(input_ids=torch.tensor(json.loads(sys.argv[2])), num_beams=2)
print(json.dumps([said.tolist(), model.output_tokenizer.batch_decode(said, skip_special_tokens=True)]))
"""


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_answers_survive_saving(base, tmp_path, options):
    model = make_sequence_model(base, **options)
    said, loss = answers(model)
    model.save_pretrained(tmp_path)
    for door in (SpeechPromptForSequenceGeneration, AutoModel, AutoModelForSpeechSeq2Seq):
        opened = door.from_pretrained(tmp_path)
        assert type(opened) is SpeechPromptForSequenceGeneration
        assert not opened.training
        found, found_loss = answers(opened)
        assert found == said
        assert abs(found_loss - loss) < 1e-4
        assert opened.output_tokenizer.get_vocab() == model.output_tokenizer.get_vocab()
        assert opened.config.max_output_tokens == 8
    opened.save_pretrained(tmp_path / "again")
    for name in ("verbalizer.safetensors", "output_tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    for door in (SpeechPromptForAudioClassification, AutoModelForAudioClassification):
        with pytest.raises(AdapterError, match=r"says sequences, and .* opens none of these"):
            door.from_pretrained(tmp_path)


@pytest.mark.slow
def test_a_fresh_process_says_the_same(base, tmp_path, project_root):
    model = make_sequence_model(base)
    model.save_pretrained(tmp_path)
    ids = torch.tensor([list(UTTERANCES[0])])
    said = model.generate(input_ids=ids, num_beams=2)
    result = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path), json.dumps(ids.tolist())],
        capture_output=True,
        text=True,
        cwd=project_root,
        check=True,
        env={**os.environ, "PYTHONPATH": str(project_root)},
    )
    texts = model.output_tokenizer.batch_decode(said, skip_special_tokens=True)
    assert json.loads(result.stdout.splitlines()[-1]) == [said.tolist(), texts]


def test_training_a_language_model_whole(tmp_path):
    lm = tiny_lm(seed=10)
    before = {name: value.clone() for name, value in lm.state_dict().items()}
    model = make_sequence_model(lm, method="finetune").train()
    ids, mask = pad(UTTERANCES)
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
    model(ids, mask, labels=LABELS).loss.backward()
    optimizer.step()
    assert any(not torch.equal(value, before[name]) for name, value in lm.state_dict().items())
    said = answers(model.eval())
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()
    assert answers(SpeechPromptForSequenceGeneration.from_pretrained(tmp_path))[0] == said[0]


def test_a_checkpoint_is_trained_on_from(saved, tmp_path):
    model = SpeechPromptForSequenceGeneration.from_pretrained(saved / "adapter").train()
    model.save_pretrained(tmp_path / "checkpoint-3")
    opened = SpeechPromptForSequenceGeneration.from_pretrained(tmp_path / "checkpoint-3").train()
    ids, mask = pad(UTTERANCES)
    for one in (model, opened):
        torch.manual_seed(0)
        one(ids, mask, labels=LABELS).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(parameter.grad, opened.get_parameter(name).grad), name


def test_the_files_of_an_adapter(saved):
    folder = saved / "adapter"
    values = json.loads((folder / "config.json").read_text())
    assert values["format_version"] == 3
    assert (values["output_vocab_size"], values["max_output_tokens"]) == (12, 256)
    assert values["architectures"] == ["SpeechPromptForSequenceGeneration"]
    assert not (folder / "tokenizer.json").exists() and not (folder / "generation_config.json").exists()
    shapes = {name: tuple(one.shape) for name, one in load_file(folder / "verbalizer.safetensors").items()}
    assert shapes == {"weight": (10, 30), "embedding": (10, 32), "unit_token_of_row": (10,)}


@pytest.mark.parametrize(("hidden", "version"), [(0, 1), (4, 2)])
def test_classifiers_are_saved_as_before(saved, tmp_path, hidden, version):
    model = SpeechPromptForAudioClassification.from_base(saved / "base", ["a", "b"], verbalizer_hidden_size=hidden)
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["format_version"] == version
    new = {"output_vocab_size", "max_output_tokens", "decoder_start_token_id", "is_encoder_decoder"}
    assert not new & values.keys() or not any(values.get(key) for key in new)
    assert "output_vocab_size" not in values and "max_output_tokens" not in values
    assert not (tmp_path / "output_tokenizer.json").exists()
    for door in (SpeechPromptForSequenceGeneration, AutoModelForSpeechSeq2Seq):
        with pytest.raises(AdapterError, match=r"is a classifier, and .* opens none of these"):
            door.from_pretrained(tmp_path)


def test_a_base_alone_says_no_sequences(base):
    with pytest.raises(AdapterError, match="without a prompt, and says no sequences"):
        AutoModelForSpeechSeq2Seq.from_pretrained(base)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "has no output_tokenizer.json"),
        ("", "output_tokenizer.json is not valid JSON"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "holds list instead of an object"),
        ("{}", "has no vocabulary"),
        ('{"version": "1.0", "model": {"type": "WordLevel"}}', "has no vocabulary"),
        (b"\x00\xff\xfe", "is not valid JSON"),
    ],
)
def test_missing_and_damaged_tokenizers_are_named(adapter, content, match):
    path = adapter / "output_tokenizer.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    change(adapter, file_sha256=None)
    with pytest.raises(AdapterError, match=match):
        SpeechPromptForSequenceGeneration.from_pretrained(adapter)


@pytest.mark.parametrize(
    ("place", "value", "match"),
    [
        (["model", "type"], "Unigram", "a model of type 'Unigram'"),
        (["decoder"], {"type": "ByteFallback"}, "a decoder of type 'ByteFallback'"),
        (["decoder"], {"type": "Strip", "content": " ", "start": 1, "stop": 1}, "a decoder of type 'Strip'"),
        (["decoder"], {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}, "with the pattern"),
        (["decoder"], {"type": "Sequence", "decoders": [{"type": "Fuse"}] * 9}, "10 parts of a decoder"),
        (["normalizer"], {"type": "Replace", "pattern": {"Regex": BLANKS}, "content": "a" * 9}, "puts in 'aaaaaaaaa'"),
        (["pre_tokenizer"], {"type": "Split", "pattern": {"String": "a"}, "behavior": "Isolated"}, "with the pattern"),
        (["truncation"], {"max_length": 1}, "a setting of truncation"),
        (["model", "vocab", "a"], 999_999, "token ids, which are not 0 to 11"),
        (["added_tokens"], None, "no vocabulary"),
    ],
    ids=str,
)
def test_tokenizers_that_this_package_would_not_make_are_refused(adapter, place, value, match):
    path = adapter / "output_tokenizer.json"
    values = json.loads(path.read_text())
    inner = values
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    path.write_text(json.dumps(values))
    change(adapter, file_sha256=None)
    with pytest.raises(AdapterError, match=match):
        SpeechPromptForSequenceGeneration.from_pretrained(adapter)


@pytest.mark.parametrize("text", ["ab", "abcdefghijklm"])
def test_tokenizers_of_another_size_are_named(adapter, text):
    other = tiny_tokenizer(text)
    model = SpeechPromptForSequenceGeneration.from_pretrained(adapter)
    other.backend_tokenizer.save(str(adapter / "output_tokenizer.json"))
    change(adapter, file_sha256=None)
    with pytest.raises(AdapterError, match=f"has {len(other)} token ids, which are not 0 to 11"):
        SpeechPromptForSequenceGeneration.from_pretrained(adapter)
    with pytest.raises(ConfigurationError, match=f"has {len(other)} tokens, the model 12"):
        model.output_tokenizer = other


def test_tokenizers_with_other_first_tokens_are_refused(adapter):
    path = adapter / "output_tokenizer.json"
    path.write_text(path.read_text().replace("<unk>", "<what>"))
    change(adapter, file_sha256=None)
    with pytest.raises(AdapterError, match="cannot be read"):
        SpeechPromptForSequenceGeneration.from_pretrained(adapter)


def test_a_model_without_a_tokenizer_is_not_saved(tmp_path):
    config = SpeechPromptConfig(output_vocab_size=12, vocab_size=30, hidden_size=32)
    model = SpeechPromptForSequenceGeneration(config, tiny_lm())
    with pytest.raises(AdapterError, match="has no output tokenizer"):
        model.save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="has no output_vocab_size: it is a classifier's"):
        SpeechPromptForSequenceGeneration(SpeechPromptConfig(vocab_size=30, hidden_size=32), tiny_lm())


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"output_vocab_size": 0}, "output_vocab_size in config.json of .* is 0"),
        ({"output_vocab_size": -1}, "output_vocab_size"),
        ({"output_vocab_size": 3}, "output_vocab_size is 3"),
        ({"output_vocab_size": 4}, "output_vocab_size is 4"),
        ({"output_vocab_size": "x"}, "output_vocab_size in config.json of .* is 'x'"),
        ({"output_vocab_size": True}, "output_vocab_size"),
        ({"output_vocab_size": 12.0}, "output_vocab_size"),
        ({"output_vocab_size": 10**9}, "output_vocab_size in config.json of .* is 1000000000"),
        ({"output_vocab_size": 65_536}, "verbalizer.safetensors .* has shape"),
        ({"output_vocab_size": 13}, "verbalizer.safetensors .* has shape"),
        ({"output_vocab_size": None, "label_feedback": "learned"}, "label_feedback 'learned' is for sequence"),
        ({"output_vocab_size": None, "label_feedback": "token"}, "is a classifier"),
        ({"label_feedback": "token"}, "holds embedding, which its configuration does not know"),
        ({"label_feedback": "x"}, "label_feedback is 'x'"),
        ({"method": "probe"}, "the method 'probe' generates no sequences"),
        ({"readout": "pooled"}, "readout is 'pooled' in a model that generates"),
        ({"verbalizer_hidden_size": 4}, "verbalizer_hidden_size is 4 in a model that generates"),
        ({"label_sequences": [[0], [1]]}, "label_sequences"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": 10**9}, "max_output_tokens"),
        ({"max_output_tokens": "9"}, "max_output_tokens"),
        ({"format_version": 5}, "format version 5"),
    ],
    ids=str,
)
def test_hostile_configurations_are_refused(adapter, values, match):
    change(adapter, **values)
    with pytest.raises(SpeechPromptError, match=match):
        SpeechPromptForSequenceGeneration.from_pretrained(adapter)


def test_the_record_of_the_version_cannot_be_lowered(adapter):
    change(adapter, format_version=1)
    assert SpeechPromptForSequenceGeneration.from_pretrained(adapter).config.format_version == 3


def test_a_base_of_other_weights_is_refused(adapter):
    with pytest.raises(FingerprintMismatchError):
        SpeechPromptForSequenceGeneration.from_pretrained(adapter, base=tiny_lm(seed=11))


def test_options_that_do_not_fit_are_refused():
    lm, tokenizer = tiny_lm(), tiny_tokenizer()
    make = SpeechPromptForSequenceGeneration.from_base
    with pytest.raises(ConfigurationError, match="'probe' generates no sequences"):
        make(lm, tokenizer, method="probe")
    with pytest.raises(ConfigurationError, match="'mixture' needs a learnable verbalizer"):
        make(lm, tokenizer, verbalizer="random", label_feedback="mixture")
    with pytest.raises(LabelError, match="pass training_units and training_outputs"):
        make(lm, tokenizer, verbalizer="frequency")
    many = build_output_tokenizer(["abcdefghijklmnopqrstuvwxyz0"])
    for options in ({"verbalizer": "random"}, {"label_feedback": "token"}):
        with pytest.raises(LabelError, match=r"27 .* 26"):
            make(lm, many, **options)
    model = make(lm, many)
    assert model.generate(torch.tensor([UTTERANCES[0]]), max_new_tokens=2).shape[0] == 1
    with pytest.raises(ConfigurationError, match="max_output_tokens is 0"):
        make(lm, tokenizer, max_output_tokens=0)


def test_frequent_tokens_are_frequent_units():
    units = [[3, 3, 3, 8, 8, 5]]
    outputs = [[9, 9, 4, 2], [9, 4, 6, 2]]
    model = make_sequence_model(tiny_lm(), verbalizer="frequency", training_units=units, training_outputs=outputs)
    tokens = model.verbalizer.unit_token_of_row.tolist()
    assert tokens[:2] == [2, 3]
    assert [tokens[token - 2] for token in (9, 4, 6)] == [3 + 4, 8 + 4, 5 + 4]
    assert len(set(tokens)) == len(tokens)


@pytest.mark.parametrize("tokens", ["characters", "words", "subwords"])
def test_every_tokenizer_of_a_task_is_opened_again(tmp_path, tokens):
    text = "[size] large cup [/size] [roast] dark [/roast]"
    tokenizer = task_tokenizer(replace(slot_filling, tokens=tokens, num_subwords=60), [text])
    lm = tiny_lm()
    SpeechPromptForSequenceGeneration.from_base(lm, tokenizer, num_virtual_tokens=2).save_pretrained(tmp_path)
    opened = SpeechPromptForSequenceGeneration.from_pretrained(tmp_path, base=lm).output_tokenizer
    assert opened.decode(opened(text).input_ids, skip_special_tokens=True) == text


def test_how_it_searches_is_saved(saved, tmp_path):
    model = SpeechPromptForSequenceGeneration.from_pretrained(saved / "adapter")
    assert not (saved / "adapter" / "generation_config.json").exists()
    model.generation_config.update(num_beams=3, length_penalty=0.5, forced_eos_token_id=7)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {"num_beams": 3, "length_penalty": 0.5}
    opened = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path)
    ids, mask = pad(UTTERANCES, "left")
    beams = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=6, num_beams=3, length_penalty=0.5)
    assert torch.equal(opened.generate(input_ids=ids, attention_mask=mask, max_new_tokens=6), beams)
    opened.generation_config.update(num_beams=None, length_penalty=None)
    opened.save_pretrained(tmp_path)
    assert not (tmp_path / "generation_config.json").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"num_beams": 100000}', "num_beams in generation_config.json"),
        ('{"num_beams": true}', "num_beams in generation_config.json"),
        ('{"temperature": NaN}', "temperature in generation_config.json"),
        ('{"early_stopping": "often"}', "early_stopping in generation_config.json"),
        ('{"temperature": 1' + 400 * "0" + "}", "temperature in generation_config.json .*…"),
        ('{"num_beams": "' + 5000 * "x" + '"}', "num_beams in generation_config.json .{,200}$"),
        ("[1]", "list instead of an object"),
        ("{", "not valid JSON"),
    ],
)
def test_a_strangers_search_is_checked(adapter, content, words):
    (adapter / "generation_config.json").write_text(content)
    with pytest.raises(AdapterError, match=words):
        SpeechPromptForSequenceGeneration.from_pretrained(adapter)


def test_a_stranger_sets_nothing_but_the_search(adapter):
    (adapter / "generation_config.json").write_text(
        json.dumps(
            {"max_length": 999, "bos_token_id": 7, "custom_generate": "x", "cache_implementation": "q", "num_beams": 2}
        )
    )
    config = SpeechPromptForSequenceGeneration.from_pretrained(adapter).generation_config
    assert (config.num_beams, config.bos_token_id, config.cache_implementation) == (2, 0, None)
    assert config.max_length is None and not hasattr(config, "custom_generate")


def test_a_decoder_without_positions_for_the_answers_is_refused(tmp_path):
    lm, _ = tiny_base("mbart", tmp_path / "made")
    lm.save_pretrained(tmp_path / "base")
    positions = lm.config.max_position_embeddings
    with pytest.raises(ConfigurationError, match=f"the base says {positions} tokens at most"):
        SpeechPromptForSequenceGeneration.from_base(lm, tiny_tokenizer(), max_output_tokens=positions + 1)
    model = SpeechPromptForSequenceGeneration.from_base(tmp_path / "base", tiny_tokenizer())
    assert model.config.max_output_tokens == min(256, positions)
    # An adapter of an earlier version may name more; it says what fits.
    model.config.max_output_tokens = positions + 1
    model.save_pretrained(tmp_path / "adapter")
    opened = SpeechPromptForSequenceGeneration.from_pretrained(tmp_path / "adapter")
    ids, mask = pad(UTTERANCES, "left")
    said = opened.generate(input_ids=ids, attention_mask=mask, min_new_tokens=positions)
    assert said.shape[1] == positions + 1
    for (one,) in generate_hypotheses(opened, input_ids=ids, attention_mask=mask):
        assert len(one.tokens) <= positions


@pytest.mark.parametrize("values", [{"num_beams": 10**6}, {"length_penalty": 1e9}, {"top_p": 1.5}], ids=str)
def test_a_search_that_would_not_open_again_is_not_saved(saved, tmp_path, values):
    model = SpeechPromptForSequenceGeneration.from_pretrained(saved / "adapter")
    for name, value in values.items():
        setattr(model.generation_config, name, value)
    with pytest.raises(ConfigurationError, match=f"generation_config.{next(iter(values))} is "):
        model.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_search_has_no_part_in_measures_lists_and_streams(tmp_path):
    model = make_sequence_model(tiny_lm(seed=10))
    ids, mask = pad(UTTERANCES, "left")
    grammar = grammar_of_sequences([[6, 6], [7, 7, 7]])

    def measured():
        return (
            say(model, ids, mask),
            generate_hypotheses(model, input_ids=ids, attention_mask=mask, num_hypotheses=2, grammar=grammar),
            list(stream_text(model, input_ids=ids[:1], attention_mask=mask[:1])),
        )

    before = measured()
    model.generation_config.update(num_beams=3, no_repeat_ngram_size=1, length_penalty=-2.0)
    assert measured()[:2] == before[:2]
    # One beam, with what else was saved.
    (tokens,) = model.generate(input_ids=ids[:1], attention_mask=mask[:1], num_beams=1)
    assert "".join(measured()[2]) == model.output_tokenizer.decode(tokens, skip_special_tokens=True)
    assert all(grammar.accepts(one.tokens) for row in measured()[1] for one in row)
