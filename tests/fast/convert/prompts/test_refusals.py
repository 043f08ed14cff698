"""What is no prompt of this base is refused by name, executes nothing and leaves nothing."""

import math

import pytest
import torch
from transformers import AutoModelForAudioClassification

from speechprompt_hf.convert.errors import ConversionError
from speechprompt_hf.convert.prompt import convert_prompt
from speechprompt_hf.core.errors import AdapterError, FingerprintMismatchError, SpeechPromptError, VocabularyError
from speechprompt_hf.modeling.base_loading import load_base
from tests.fixtures.official_prompts import prompt_content, write_prompt
from tests.fixtures.tiny_models import (
    PEFT_WARNING,
    tiny_lm,
)
from tests.fixtures.toy_prompts import LABELS, tensors

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


def changed(key, value):
    def change(state):
        if value is None:
            del state[key]
        else:
            state[key] = value

    return change


def grouped(change_name):
    """The name of a tensor, short."""
    return {
        "input": "decoder.prefix_embed_prompts.weight",
        "key1": "decoder.deep_key_embed_prompts.1.weight",
        "value0": "decoder.deep_value_embed_prompts.0.weight",
        "key2": "decoder.deep_key_embed_prompts.2.weight",
        "infix": "decoder.infix_embed_prompts.weight",
        "sep": "decoder.sep_embed.weight",
        "verbalizer": "decoder.prompt_linear_verbalizer.weight",
        "lm": "decoder.layers.0.fc1.weight",
    }.get(change_name, change_name)


@pytest.mark.parametrize(
    ("kind", "key", "value", "message"),
    [
        ("deep", "key1", None, "lacks decoder.deep_key_embed_prompts.1.weight: the base has 2 layers"),
        ("deep", "key2", torch.ones(3, 32), "prompts for 3 layers, the base has 2 layers"),
        ("deep", "value0", torch.ones(3, 48), "deep_value_embed_prompts.0.weight in"),
        ("deep", "value0", torch.ones(3, 48), "has shape (3, 48), the base has width 32"),
        ("deep", "value0", torch.ones(4, 32), "has 4 columns, decoder.deep_key_embed_prompts.0.weight has 3"),
        ("deep", "value0", torch.ones(96), "has shape (96,), the base has width 32"),
        ("deep", "value0", torch.ones(3, 32, dtype=torch.long), "is of type torch.int64, no weight"),
        ("deep", "value0", torch.full((3, 32), math.nan), "deep_value_embed_prompts.0.weight in"),
        ("deep", "value0", torch.full((3, 32), 1e300, dtype=torch.float64), "holds values beyond torch.float32"),
        ("input", "input", None, "has neither decoder.prefix_embed_prompts.weight nor keys and values"),
        ("input", "input", torch.ones(3, 16), "has shape (3, 16), the base has width 32"),
        ("input", "input", torch.ones(0, 32), "has 0 columns"),
        ("input", "input", torch.ones(10_001, 32), "has 10001 columns"),
        ("input", "input", torch.tensor(1.0), "has shape (), the base has width 32"),
        ("deep", "sep", None, "lacks decoder.sep_embed.weight"),
        ("deep", "sep", torch.ones(2, 32), "decoder.sep_embed.weight in"),
        ("deep", "sep", torch.full((1, 32), math.inf), "holds NaN or infinite values"),
        ("deep", "infix", torch.ones(2, 32), "a prompt before the separator"),
        ("deep", "verbalizer", torch.ones(9, 31), "has shape (9, 31), the base's vocabulary has 30 tokens"),
        ("deep", "verbalizer", torch.ones(4, 30), "has 4 rows: 4 special ones and no label"),
        ("deep", "verbalizer", torch.ones(30), "has shape (30,)"),
        ("deep", "lm", torch.ones(3), "'decoder.layers.0.fc1.weight', which is no trained tensor of a prompt"),
        ("deep", "decoder.deep_key_embed_prompts.01.weight", torch.ones(3, 32), "which is no trained tensor"),
        ("deep", "decoder.deep_key_embed_prompts.weight", "text", "which is no tensor"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused_by_name(kind, key, value, message, base, tmp_path):
    state = tensors(kind)
    changed(grouped(key), value)(state)
    path = write_prompt(tmp_path / "p.pt", state)
    with pytest.raises(ConversionError) as caught:
        convert_prompt(path, tmp_path / "adapter", base, labels=LABELS)
    assert message in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["p.pt"]


@pytest.mark.parametrize("change", [("deep_key_embed_prompts", torch.ones(3, 32)), ("input", None)])
def test_an_error_of_a_name_says_which_names_there_are(change, base, tmp_path):
    state = tensors("input")
    changed(grouped(change[0]), change[1])(state)
    with pytest.raises(ConversionError) as caught:
        convert_prompt(write_prompt(tmp_path / "p.pt", state), tmp_path / "adapter", base, labels=LABELS)
    names = [key.replace(".0.", ".N.") for key in tensors("deep", version=1) if ".1." not in key]
    assert len(names) == 6 and all(name in caught.value.hint for name in names)


def test_a_hundred_tensors_are_no_prompt(base, tmp_path):
    state = {f"decoder.layers.{number}.fc1.weight": torch.ones(1) for number in range(100)}
    with pytest.raises(ConversionError, match="has 100 tensors, a prompt has fewer than 100"):
        convert_prompt(write_prompt(tmp_path / "p.pt", state), tmp_path / "adapter", base, labels=LABELS)
    state.popitem()
    with pytest.raises(ConversionError, match="which is no trained tensor of a prompt"):
        convert_prompt(write_prompt(tmp_path / "p.pt", state), tmp_path / "adapter", base, labels=LABELS)


@pytest.mark.parametrize(("content", "message"), [({"model": {}}, "has no weights"), ({"lm": 1}, "has no weights"),
                                                  (None, "has no weights"), (b"PK", "starts with")])  # fmt: skip
def test_files_that_are_no_checkpoint(content, message, base, tmp_path):
    if isinstance(content, bytes):
        (tmp_path / "p.pt").write_bytes(content)
    else:
        torch.save(content, tmp_path / "p.pt")
    with pytest.raises(ConversionError, match=message):
        convert_prompt(tmp_path / "p.pt", tmp_path / "adapter", base, labels=LABELS)
    assert [each.name for each in tmp_path.iterdir()] == ["p.pt"]


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated_files(share, base, tmp_path):
    path = write_prompt(tmp_path / "p.pt", tensors())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ConversionError):
        convert_prompt(path, tmp_path / "adapter", base, labels=LABELS)
    assert [each.name for each in tmp_path.iterdir()] == ["p.pt"]


def test_hostile_files_execute_nothing(trap, base, tmp_path):
    content = prompt_content(tensors(), version=2)
    content["extra_state"]["call"] = trap.planted
    torch.save(content, tmp_path / "p.pt")
    with pytest.raises(ConversionError, match=trap.name):
        convert_prompt(tmp_path / "p.pt", tmp_path / "adapter", base, labels=LABELS)
    assert not trap.mark.exists()
    assert not (tmp_path / "adapter").exists()


def test_a_folder_that_is_there_is_kept(base, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "notes").write_text("mine")
    with pytest.raises(ConversionError, match="exists and is no empty folder"):
        convert_prompt(write_prompt(tmp_path / "p.pt", tensors()), tmp_path / "adapter", base, labels=LABELS)
    assert (tmp_path / "adapter" / "notes").read_text() == "mine"


# The base.


def test_another_base_is_refused_when_the_adapter_is_opened(base, tmp_path):
    convert_prompt(write_prompt(tmp_path / "p.pt", tensors()), tmp_path / "adapter", base, labels=LABELS)
    tiny_lm(seed=6).save_pretrained(tmp_path / "other")
    with pytest.raises(FingerprintMismatchError):
        AutoModelForAudioClassification.from_pretrained(tmp_path / "adapter", base=tmp_path / "other")


def test_a_base_without_a_dictionary(base, tmp_path):
    tiny_lm(seed=5).save_pretrained(tmp_path / "bare")
    path = write_prompt(tmp_path / "p.pt", tensors())
    with pytest.raises(ConversionError, match=r"the base has no dict\.txt"):
        convert_prompt(path, tmp_path / "a", tmp_path / "bare", labels=LABELS)
    convert_prompt(path, tmp_path / "a", tmp_path / "bare", labels=LABELS, dictionary=base / "dict.txt")
    assert (tmp_path / "a" / "dict.txt").read_bytes() == (base / "dict.txt").read_bytes()
    (tmp_path / "dict.txt").write_text("1 1\n2 1\n")
    with pytest.raises(ConversionError, match="the dictionary makes 6 tokens, the base has 30"):
        convert_prompt(path, tmp_path / "b", tmp_path / "bare", labels=LABELS, dictionary=tmp_path / "dict.txt")
    with pytest.raises(ConversionError, match="there is no dictionary"):
        convert_prompt(path, tmp_path / "b", base, labels=LABELS, dictionary=tmp_path / "nowhere")
    (tmp_path / "dict.txt").write_text("one 1\n")
    with pytest.raises(VocabularyError, match="'one' in line 1"):
        convert_prompt(path, tmp_path / "b", base, labels=LABELS, dictionary=tmp_path / "dict.txt")


def test_a_base_that_is_not_there(tmp_path):
    path = write_prompt(tmp_path / "p.pt", tensors())
    with pytest.raises(AdapterError):
        convert_prompt(path, tmp_path / "adapter", tmp_path / "nowhere", labels=LABELS)
    assert [each.name for each in tmp_path.iterdir()] == ["p.pt"]


def test_a_loaded_base(base, tmp_path):
    lm = load_base(base)
    convert_prompt(write_prompt(tmp_path / "p.pt", tensors()), tmp_path / "a", lm, labels=LABELS)
    with pytest.raises(SpeechPromptError, match=r"the base has no dict\.txt"):
        convert_prompt(tmp_path / "p.pt", tmp_path / "b", tiny_lm(seed=5), labels=LABELS)
