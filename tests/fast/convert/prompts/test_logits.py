"""Official prompts become adapters of the same logits and labels."""

import json
import math

import pytest
import torch
from peft import PeftModel
from transformers import AutoModel, AutoModelForAudioClassification

from speechprompt_hf.convert.prompt import convert_prompt
from speechprompt_hf.modeling.base_loading import load_base
from tests.fixtures.official_prompts import write_prompt
from tests.fixtures.tiny_models import (
    NUM_HEADS,
    PEFT_WARNING,
    RAGGED_ROWS,
    VOCAB_SIZE,
    pad,
    real_rows,
)
from tests.fixtures.toy_prompts import INTENTS, LABELS, label_tokens, official, tensors, units_of
from tests.oracle.modeling.upstream_prompt import upstream_greedy

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)
TOLERANCE = 2e-5


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
        "dict.txt",
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
