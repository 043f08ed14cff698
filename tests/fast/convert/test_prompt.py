"""Official prompts become adapters of the same logits; what does not fit is refused by name, and nothing is left."""

import json
import math

import pytest
import torch
from peft import PeftModel
from transformers import AutoModel, AutoModelForAudioClassification

from speechprompt_hf.convert.errors import ConversionError
from speechprompt_hf.convert.prompt import convert_prompt
from speechprompt_hf.core.errors import AdapterError, FingerprintMismatchError, SpeechPromptError, VocabularyError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.modeling.base_loading import load_base
from tests.fixtures.official_prompts import prompt_content, prompt_tensors, with_plain_norms, write_prompt
from tests.fixtures.tiny_models import (
    HIDDEN_SIZE,
    NUM_HEADS,
    NUM_LAYERS,
    PEFT_WARNING,
    RAGGED_ROWS,
    VOCAB_SIZE,
    pad,
    real_rows,
    tiny_lm,
)
from tests.oracle.modeling.upstream_prompt import upstream_greedy, upstream_logits

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)
TOLERANCE = 2e-5
# As in the dictionaries of the released CPC models, a token is not its unit + 4.
UNITS = torch.randperm(VOCAB_SIZE - 4, generator=torch.Generator().manual_seed(3)).tolist()
LABELS = ["yes", "no", "up", "down", "left"]
SIZES = {"width": HIDDEN_SIZE, "layers": NUM_LAYERS, "vocab": VOCAB_SIZE}
INTENTS = [["yes", "up", "left"], ["yes", "down", "left"], ["no", "up", "down"], ["no", "up", "left"]]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    with_plain_norms(tiny_lm(seed=5)).save_pretrained(folder)
    (folder / "dict.txt").write_text(UnitVocabulary(tuple(map(str, UNITS))).to_dict_txt())
    return folder


@pytest.fixture(scope="module")
def weights(base):
    return load_base(base).state_dict()


def token(unit):
    return UNITS.index(int(unit)) + 4


def units_of(labels=LABELS):
    """A fixed verbalizer: label → unit."""
    return {label: str(7 + 3 * number) for number, label in enumerate(labels)}


def tensors(kind="deep", linear=True, version=2, **options):
    return prompt_tensors(
        version=version, kind=kind, num_classes=len(LABELS) if linear else None, **{**SIZES, **options}
    )


def official(weights, state, tokens):
    """Logits `(n, V)` by the independent rendering of the official decoder, and `(n, C + 4)` with a verbalizer."""
    deep = "decoder.deep_key_embed_prompts.0.weight" in state

    def layers(what):
        return [state[f"decoder.deep_{what}_embed_prompts.{layer}.weight"] for layer in range(NUM_LAYERS)]

    logits = upstream_logits(
        weights,
        tokens,
        num_heads=NUM_HEADS,
        separator=state["decoder.sep_embed.weight"][0],
        prefix=state["decoder.prefix_embed_prompts.weight"],
        deep_keys=layers("key") if deep else None,
        deep_values=layers("value") if deep else None,
    )
    verbalizer = state.get("decoder.prompt_linear_verbalizer.weight")
    return logits, logits if verbalizer is None else logits @ verbalizer.T


def label_tokens(linear, units=None):
    return [4 + index if linear else token(unit) for index, unit in enumerate((units or units_of()).values())]


@pytest.fixture(params=[(version, kind, linear) for version in (1, 2) for kind in ("deep", "input")
                        for linear in ((False, True) if version == 2 else (False,))],
                ids=lambda value: f"v{value[0]}-{value[1]}-{'linear' if value[2] else 'fixed'}")  # fmt: skip
def official_file(request, tmp_path):
    version, kind, linear = request.param
    state = tensors(kind, linear, version)
    path = write_prompt(tmp_path / "checkpoint_best.pt", state, version=version)
    return path, state, {"labels": LABELS} if linear else {"verbalizer": units_of()}


@torch.no_grad()
def test_logits_are_those_of_the_official_decoder(official_file, base, weights, tmp_path):
    path, state, given = official_file
    linear = "labels" in given
    result = convert_prompt(path, tmp_path / "adapter", base, **given)
    model = AutoModel.from_pretrained(tmp_path / "adapter")
    assert [model.config.id2label[index] for index in range(5)] == LABELS
    stock = PeftModel.from_pretrained(load_base(base), tmp_path / "adapter").eval()
    for side in ("left", "right"):
        ids, mask = pad(RAGGED_ROWS, side)
        scores = model(input_ids=ids, attention_mask=mask).logits
        theirs = real_rows(stock(input_ids=ids, attention_mask=mask).logits[:, -ids.shape[1] :], mask)
        for row, tokens in enumerate(RAGGED_ROWS):
            logits, predicted = official(weights, state, tokens)
            assert (theirs[row] - logits).abs().max() < TOLERANCE
            assert (scores[row] - predicted[-1][label_tokens(linear)]).abs().max() < TOLERANCE
    assert logits.abs().max() > 3
    assert result["verbalizer"] == ("linear" if linear else "fixed")


def test_the_record_places_every_tensor(official_file, base, tmp_path):
    path, state, given = official_file
    result = convert_prompt(path, tmp_path / "adapter", base, **given)
    record = json.loads((tmp_path / "adapter" / "conversion.json").read_text())
    assert result == {"output": str(tmp_path / "adapter"), **record}
    assert sorted(each.name for each in (tmp_path / "adapter").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "config.json",
        "conversion.json",
        "verbalizer.safetensors",
    ]
    placed = sum(tensor.numel() for key, tensor in state.items() if key not in record["keys_left_out"])
    left = sum(len(record["rows_left_out"]) * VOCAB_SIZE for _ in [0] if "labels" in given)
    assert record["parameters"] == placed - left
    deep = record["prompt"] == "deep"
    assert ("decoder.prefix_embed_prompts.weight" in record["keys_left_out"]) is deep
    assert set(record["rows_left_out"]) == ({"0", "1", "2", "3"} if "labels" in given else set())
    assert record["entries_left_out"] == [
        "args", "cfg", "criterion", "extra_state", "last_optimizer_state", "optimizer_history", "task_state"
    ]  # fmt: skip
    assert record["tokens_of_labels"] == dict(zip(LABELS, label_tokens("labels" in given), strict=True))


def test_the_input_prompt_under_deep_prompts_is_dead(base, tmp_path):
    """What is left out really reaches no logit: other values there make the same adapter."""
    for name, value in (("a", 0.0), ("b", 9.0)):
        state = tensors()
        state["decoder.prefix_embed_prompts.weight"] += value
        convert_prompt(write_prompt(tmp_path / f"{name}.pt", state), tmp_path / name, base, labels=LABELS)
    files = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "ab"]
    assert files[0] == files[1]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["deep", "input"])
@pytest.mark.parametrize("linear", [True, False], ids=["linear", "fixed"])
def test_several_labels_are_decoded_as_upstream_does(kind, linear, base, weights, tmp_path):
    state = tensors(kind, linear, seed=8)
    given = {"labels": LABELS} if linear else {"verbalizer": units_of()}
    path = write_prompt(tmp_path / "p.pt", state)
    convert_prompt(path, tmp_path / "adapter", base, classes=INTENTS, **given)
    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "adapter")
    assert model.config.class_names == [" ".join(intent) for intent in INTENTS]
    sequences = [[label_tokens(linear)[LABELS.index(label)] for label in intent] for intent in INTENTS]
    rows = [[2, *torch.randint(4, VOCAB_SIZE, (n,), generator=torch.Generator().manual_seed(n)).tolist(), 0]
            for n in range(3, 23)]  # fmt: skip
    ids, mask = pad(rows, "left")
    greedy = model.decode(ids, mask, "greedy")
    for row, index in zip(rows, greedy, strict=True):
        assert decoded(weights, state, row, sequences) == sequences[index]
    assert len(set(greedy.tolist())) > 1
    exact = model(input_ids=ids[-1:], attention_mask=mask[-1:]).logits[0]
    for index, sequence in enumerate(sequences):
        logits = official(weights, state, rows[-1] + sequence[:-1])[1][-3:]
        expected = sum(
            logits[place]
            .double()[sorted({s[place] for s in sequences})]
            .log_softmax(-1)[sorted({s[place] for s in sequences}).index(sequence[place])]
            for place in range(3)
        )
        assert math.isclose(exact[index], expected, abs_tol=1e-4)


def decoded(weights, state, tokens, sequences):
    """Greedy decoding with a full pass for each token, among what continues a known sequence; fed back as said."""
    said = []
    for _ in range(len(sequences[0])):
        scores = official(weights, state, tokens + said)[1][-1]
        possible = sorted({each[len(said)] for each in sequences if each[: len(said)] == said})
        said.append(max(possible, key=lambda each: float(scores[each])))
    return said


@torch.no_grad()
def test_shorter_sequences_end_with_the_end_token(base, weights, tmp_path):
    """v2 splits 'change language' in two: some intents have four labels, the others three and `</s>`."""
    state = tensors("deep", True, seed=8)
    classes = {"change": ["yes", "no", "up"], "activate": ["yes", "no"], "bring": ["no", "left"]}
    convert_prompt(write_prompt(tmp_path / "p.pt", state), tmp_path / "adapter", base, labels=LABELS, classes=classes)
    model = AutoModel.from_pretrained(tmp_path / "adapter")
    sequences = [[4, 5, 6], [4, 5, 2], [5, 8, 2]]
    rows = [[2, *torch.randint(4, VOCAB_SIZE, (n,), generator=torch.Generator().manual_seed(n)).tolist(), 0]
            for n in range(3, 30)]  # fmt: skip
    ids, mask = pad(rows)
    greedy = model.decode(ids, mask, "greedy").tolist()
    assert [decoded(weights, state, row, sequences) for row in rows] == [sequences[index] for index in greedy]
    assert len(set(greedy)) == 3


@torch.no_grad()
def test_unrestricted_generation_is_upstreams(base, weights, tmp_path):
    state = tensors("deep", False, seed=3)
    convert_prompt(write_prompt(tmp_path / "p.pt", state), tmp_path / "adapter", base, verbalizer=units_of())
    stock = PeftModel.from_pretrained(load_base(base), tmp_path / "adapter").eval()
    ids, mask = pad(RAGGED_ROWS, "left")
    # fairseq's generator never predicts the padding.
    generated = stock.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=5, do_sample=False, eos_token_id=None, suppress_tokens=[1]
    )
    deep = {
        what: [state[f"decoder.deep_{what}_embed_prompts.{n}.weight"] for n in range(2)] for what in ("key", "value")
    }
    for tokens, row in zip(RAGGED_ROWS, generated, strict=True):
        said = upstream_greedy(
            list(tokens),
            5,
            lambda logits, _: int(logits.index_fill(0, torch.tensor([1]), -math.inf).argmax()),
            weights=weights,
            num_heads=NUM_HEADS,
            separator=state["decoder.sep_embed.weight"][0],
            prefix=state["decoder.prefix_embed_prompts.weight"],
            deep_keys=deep["key"],
            deep_values=deep["value"],
        )
        assert row[-5:].tolist() == said


# Labels.


def test_v1_s_verbal_json_has_a_task_and_numbers_for_labels(base, tmp_path):
    path = write_prompt(tmp_path / "p.pt", tensors(linear=False, version=1), version=1)
    (tmp_path / "verbal.json").write_text(
        json.dumps({"KS": {"0": "9", "1": "4", "2": "21"}, "IC": {"0": "3", "1": "2"}})
    )
    options = {"verbalizer": tmp_path / "verbal.json", "task": "KS"}
    result = convert_prompt(path, tmp_path / "a", base, labels=["yes", "no", "up"], **options)
    assert result["tokens_of_labels"] == {"yes": token(9), "no": token(4), "up": token(21)}
    result = convert_prompt(path, tmp_path / "b", base, **options)
    assert result["tokens_of_labels"] == {"0": token(9), "1": token(4), "2": token(21)}


def test_v2_s_verbalizer_json_orders_the_rows_of_the_linear_verbalizer(base, tmp_path):
    """The label of rank i is trained as the unit i, so as its token: only with dictionaries in numeric order i + 4."""
    rows = {f"word{rank}": unit for rank, unit in enumerate(str(UNITS[place]) for place in range(5))}
    path = write_prompt(tmp_path / "p.pt", tensors())
    result = convert_prompt(path, tmp_path / "a", base, verbalizer=rows, labels=list(rows)[::-1])
    assert result["tokens_of_labels"] == {f"word{rank}": 4 + rank for rank in (4, 3, 2, 1, 0)}


def test_labels_that_share_a_unit_are_on_record(base, tmp_path):
    path = write_prompt(tmp_path / "p.pt", tensors(linear=False))
    result = convert_prompt(path, tmp_path / "a", base, verbalizer={"yes": "3", "no": "5", "up": "3"})
    assert result["tokens_of_several_labels"] == [token(3)]
    assert AutoModel.from_pretrained(tmp_path / "a").config.verbalizer == "random"


def test_a_label_that_no_class_has_is_left_out(base, tmp_path):
    path = write_prompt(tmp_path / "p.pt", tensors())
    result = convert_prompt(path, tmp_path / "a", base, labels=LABELS, classes={"a": ["yes"], "b": ["left"]})
    assert {row for row, reason in result["rows_left_out"].items() if "class" in reason} == {"5", "6", "7"}


def test_files_for_labels_and_classes(base, tmp_path):
    path = write_prompt(tmp_path / "p.pt", tensors())
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    (tmp_path / "classes.json").write_text(json.dumps({"a": ["yes", "no"], "b": ["no", "no"]}))
    convert_prompt(path, tmp_path / "a", base, labels=tmp_path / "labels.json", classes=str(tmp_path / "classes.json"))
    assert AutoModel.from_pretrained(tmp_path / "a").config.class_names == ["a", "b"]


@pytest.mark.parametrize(
    ("linear", "given", "message"),
    [
        (False, {}, "no verbalizer.json or verbal.json was given"),
        (True, {}, "the linear verbalizer has 5 labels, and nothing says which"),
        (True, {"labels": LABELS[:4]}, "4 labels were given, the linear verbalizer has 5"),
        (True, {"labels": ["a", "b", "c", "d", "a"]}, "labels: 'a' occurs twice"),
        (True, {"labels": "nowhere.json"}, "there is no file nowhere.json for labels"),
        (True, {"labels": {"a": 1}}, "labels: a list of texts is needed, not dict"),
        (True, {"labels": []}, "labels: 0 texts"),
        (True, {"verbalizer": {"yes": str(UNITS[9]), "no": "1"}}, "which is token 13; the linear verbalizer has 9"),
        (False, {"verbalizer": {"yes": "3", "no": "26"}}, "maps 'no' to '26', which is no unit of the base"),
        (False, {"verbalizer": {"yes": "3", "no": "<s>"}}, "maps 'no' to '<s>', which is no unit"),
        (False, {"verbalizer": {"yes": "3", "no": 5}}, "maps 'no' to '5', which is no unit"),
        (False, {"verbalizer": {"yes": "3"}}, "1 class(es): yes"),
        (False, {"verbalizer": {}}, "no object of 1 to"),
        (False, {"verbalizer": ["3", "4"]}, "no object of 1 to"),
        (False, {"verbalizer": {"KS": {"0": "1"}, "IC": {"0": "2"}}}, "for several tasks: 'KS', 'IC'"),
        (False, {"verbalizer": {"KS": {"0": "1"}}, "task": "SF"}, "no task 'SF'"),
        (False, {"verbalizer": {"0": "1"}, "task": "KS"}, "task 'KS' was given"),
        (False, {"verbalizer": {"yes": "3", "no": "5"}, "labels": ["yes", "on"]}, "has 2, among them 'no'"),
        (True, {"labels": LABELS, "classes": [["yes"], ["maybe"]]}, "class 'maybe' has the label 'maybe'"),
        (True, {"labels": LABELS, "classes": [["yes", "no"]]}, "1 class(es): yes no"),
        (True, {"labels": LABELS, "classes": {"a": ["yes"], "b": ["yes"]}}, "two classes have the same labels"),
        (True, {"labels": LABELS, "classes": [["yes"], ["yes"]]}, "two classes are called 'yes'"),
        (True, {"labels": LABELS, "classes": [["yes"], []]}, "a class: 0 texts"),
        (True, {"labels": LABELS, "classes": [["yes"], [3]]}, "a class: a list of texts is needed"),
        (True, {"labels": LABELS, "classes": 3}, "classes are a int instead of label sequences"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(linear, given, message, base, tmp_path):
    path = write_prompt(tmp_path / "p.pt", tensors(linear=linear))
    with pytest.raises(ConversionError) as caught:
        convert_prompt(path, tmp_path / "adapter", base, **given)
    assert message in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["p.pt"]


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\xff"])
def test_files_of_labels_that_are_no_json(text, base, tmp_path):
    (tmp_path / "verbal.json").write_bytes(text.encode("latin1"))
    path = write_prompt(tmp_path / "p.pt", tensors(linear=False))
    with pytest.raises(ConversionError, match=r"verbal\.json is not valid JSON"):
        convert_prompt(path, tmp_path / "adapter", base, verbalizer=tmp_path / "verbal.json")


def test_huge_files_of_labels_are_not_read(base, tmp_path):
    with (tmp_path / "verbal.json").open("wb") as file:
        file.truncate(2**24)
    path = write_prompt(tmp_path / "p.pt", tensors(linear=False))
    with pytest.raises(ConversionError, match="16777216 bytes, more than"):
        convert_prompt(path, tmp_path / "adapter", base, verbalizer=tmp_path / "verbal.json")


def test_rows_beyond_the_vocabulary_cannot_be_fed_back(base, tmp_path):
    """1,251 speakers over 100 units: one label an utterance is well, a second would have no token to follow."""
    names = [f"speaker {number}" for number in range(40)]
    state = prompt_tensors(version=2, kind="input", num_classes=40, **SIZES)
    path = write_prompt(tmp_path / "p.pt", state)
    convert_prompt(path, tmp_path / "a", base, labels=names)
    model = AutoModel.from_pretrained(tmp_path / "a")
    assert torch.equal(model.verbalizer.weight, state["decoder.prompt_linear_verbalizer.weight"][4:])
    classes = [[names[0], names[1]], [names[39], names[1]]]
    with pytest.raises(ConversionError, match="'speaker 39' is row 43 of the linear verbalizer"):
        convert_prompt(path, tmp_path / "b", base, labels=names, classes=classes)


# Tensors.


def test_half_precision_becomes_float32_exactly(base, tmp_path):
    state = {key: value.half() for key, value in tensors("input").items()}
    convert_prompt(write_prompt(tmp_path / "p.pt", state), tmp_path / "a", base, labels=LABELS)
    model = AutoModel.from_pretrained(tmp_path / "a")
    assert torch.equal(model.prompt.vectors, state["decoder.prefix_embed_prompts.weight"].float())
    assert torch.equal(model.verbalizer.weight, state["decoder.prompt_linear_verbalizer.weight"][4:].float())


@pytest.mark.parametrize("with_tensor", [True, False])
def test_without_a_trained_separator_the_row_of_the_start_separates(with_tensor, base, tmp_path):
    state = tensors("input")
    if not with_tensor:
        del state["decoder.sep_embed.weight"]
    path = write_prompt(tmp_path / "p.pt", state, use_sep_token=False)
    result = convert_prompt(path, tmp_path / "a", base, labels=LABELS)
    model = AutoModel.from_pretrained(tmp_path / "a")
    assert torch.equal(model.prompt.separator_vector(model.lm), model.lm.get_input_embeddings().weight[0])
    assert ("decoder.sep_embed.weight" in result["keys_left_out"]) is with_tensor


def test_a_file_with_weights_alone(base, tmp_path):
    """Upstream itself reads nothing else."""
    torch.save({"model": dict(tensors())}, tmp_path / "p.pt")
    convert_prompt(tmp_path / "p.pt", tmp_path / "a", base, labels=LABELS)


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
