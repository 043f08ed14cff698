"""The Unit mBART: transformers' own numbers, padding, prompts as arguments, languages, and what is refused."""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from speechprompt_hf.core.errors import AdapterError, ConfigurationError, UnitError
from speechprompt_hf.modeling import UnitMBartConfig, UnitMBartForConditionalGeneration
from speechprompt_hf.modeling.base_loading import base_fingerprint, load_base
from speechprompt_hf.modeling.embeddings import belongs_to_adapters
from speechprompt_hf.modeling.prompt_initialization import token_states, token_vectors
from tests.fixtures.tiny_models import RAGGED_ROWS, pad, real_rows
from tests.fixtures.unit_mbarts import (
    DECODER_LAYERS,
    ENCODER_LAYERS,
    MBART_UNITS,
    MBART_WIDTH,
    mbart_config,
    stock_mbart,
    tiny_mbart,
)

EN, ES = 4 + MBART_UNITS, 5 + MBART_UNITS
SAID = torch.tensor([[EN, 0, 7, 9], [EN, 0, 8, 12], [EN, 0, 21, 4]])


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("normalize_before", [True, False])
@torch.no_grad()
def test_numbers_are_those_of_transformers(normalize_before, attn_implementation):
    lm = tiny_mbart(normalize_before=normalize_before, attn_implementation=attn_implementation)
    inputs = lm.encoder_inputs(*pad(RAGGED_ROWS))
    ours, theirs = lm(**inputs, decoder_input_ids=SAID), stock_mbart(lm)(**inputs, decoder_input_ids=SAID)
    assert theirs.logits.std() > 0.5
    assert (ours.logits - theirs.logits).abs().max() < 2e-5
    loss = lm(**inputs, labels=SAID).loss
    logits = lm(**inputs, decoder_input_ids=torch.tensor([[EN, EN, 0, 7], [EN, EN, 0, 8], [EN, EN, 0, 21]])).logits
    assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), SAID.flatten())))


def test_padding_without_a_mask_is_not_encoded():
    lm = tiny_mbart()
    ids, mask = pad(RAGGED_ROWS)
    assert not mask.all()
    told, found = lm.encoder_inputs(ids, mask), lm.encoder_inputs(ids)
    assert all(torch.equal(told[name], found[name]) for name in ("input_ids", "attention_mask"))


@torch.no_grad()
def test_generation_starts_says_and_stops_as_upstream():
    lm = tiny_mbart(seed=3, std=0.5)
    inputs = lm.encoder_inputs(*pad(RAGGED_ROWS))
    options = {"decoder_start_token_id": EN, "forced_bos_token_id": 0, "eos_token_id": EN, "forced_eos_token_id": EN}
    theirs = stock_mbart(lm).generate(**inputs, max_new_tokens=9, do_sample=False, suppress_tokens=[1], **options)
    ours = lm.generate(**inputs, max_new_tokens=9, do_sample=False)
    assert ours.tolist() == theirs.tolist()
    assert ours[:, :2].tolist() == [[EN, 0]] * 3
    assert (ours.eq(EN).sum(1) == 2).all()
    beams = lm.generate(**inputs, max_new_tokens=9, num_beams=3)
    assert (
        beams.tolist()
        == stock_mbart(lm).generate(**inputs, max_new_tokens=9, num_beams=3, suppress_tokens=[1], **options).tolist()
    )
    # Without a cache, as in fairseq's first versions.
    assert lm.generate(**inputs, max_new_tokens=9, use_cache=False).tolist() == ours.tolist()


def test_full_size_has_the_parameters_of_the_released_model():
    with torch.device("meta"):
        lm = UnitMBartForConditionalGeneration(UnitMBartConfig())
    named = lm.named_parameters()
    assert sum(value.numel() for name, value in named if not belongs_to_adapters(name)) == 355_855_360


def test_the_encoder_reads_what_it_was_trained_on():
    rows = [[2, 9, 10, 0], [2, 5, 0]]
    found = tiny_mbart().encoder_inputs(*pad(rows))
    assert found["input_ids"].tolist() == [[0, 9, 10, 2, EN], [0, 5, 2, EN, 1]]
    assert found["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 1, 0]]
    left = tiny_mbart().encoder_inputs(*pad(rows, "left"))
    assert left["input_ids"].tolist() == found["input_ids"].tolist()
    without = tiny_mbart(inner_eos=False).encoder_inputs(*pad(rows))
    assert without["input_ids"].tolist() == [[0, 9, 10, EN], [0, 5, EN, 1]]


@pytest.mark.parametrize("inner_eos", [True, False])
@torch.no_grad()
def test_rows_do_not_depend_on_padding(inner_eos):
    lm = tiny_mbart(inner_eos=inner_eos)
    for at_separator in (True, False):
        alone = [
            lm.read_utterances(*pad([row]), None, at_separator=at_separator).hidden_states[0] for row in RAGGED_ROWS
        ]
        for side in ("right", "left"):
            ids, mask = pad(RAGGED_ROWS, side)
            read = lm.read_utterances(ids, mask, None, at_separator=at_separator).hidden_states
            rows = list(read) if at_separator else real_rows(read, mask)
            for found, expected in zip(rows, alone, strict=True):
                assert (found - expected).abs().max() < 2e-5


@torch.no_grad()
def test_columns_hold_what_the_decoder_says_there():
    lm = tiny_mbart()
    (row,) = [RAGGED_ROWS[0]]
    ids, mask = pad([row])
    columns = lm.lm_head(lm.read_utterances(ids, mask, None, at_separator=False).hidden_states)[0]
    said = torch.tensor([[EN, 0, *row[1:-1]]])
    expected = lm(**lm.encoder_inputs(ids), decoder_input_ids=said).logits[0]
    assert (columns[-1] - expected[0]).abs().max() < 2e-5
    assert (columns[:-1] - expected[1:]).abs().max() < 2e-5


@torch.no_grad()
def test_the_encoder_counts_real_columns_on_either_side():
    lm = tiny_mbart()
    inputs = lm.encoder_inputs(*pad(RAGGED_ROWS))
    right = lm.model.encoder(**inputs).last_hidden_state
    flipped = {
        name: torch.stack(
            [row.roll(int((mask == 0).sum())) for row, mask in zip(value, inputs["attention_mask"], strict=True)]
        )
        for name, value in inputs.items()
    }
    left = lm.model.encoder(**flipped).last_hidden_state
    rows = zip(real_rows(right, inputs["attention_mask"]), real_rows(left, flipped["attention_mask"]), strict=True)
    assert all((one - other).abs().max() < 2e-5 for one, other in rows)


def test_another_language_is_another_function(tmp_path):
    lm = tiny_mbart()
    first = base_fingerprint(lm)["weights"]
    lm.set_language("es")
    assert lm.encoder_inputs(torch.tensor([[2, 9, 0]]))["input_ids"].tolist() == [[0, 9, 2, ES]]
    assert lm.generation_config.decoder_start_token_id == lm.generation_config.eos_token_id == ES
    assert torch.equal(lm.get_input_embeddings().start_row, lm.lm_head.weight[ES])
    assert base_fingerprint(lm)["weights"] != first
    lm.save_pretrained(tmp_path)
    opened = load_base(tmp_path)
    assert opened.config.language == "es" and opened.generation_config.eos_token_id == ES
    assert base_fingerprint(opened)["weights"] == base_fingerprint(lm)["weights"]
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, language="en")
    assert again.generation_config.eos_token_id == EN
    assert again.get_input_embeddings().separator_token_id == EN
    with pytest.raises(ConfigurationError, match="language is 'fr'"):
        lm.set_language("fr")


def test_a_base_is_saved_without_what_adapters_fill(tmp_path):
    lm = tiny_mbart()
    lm.save_pretrained(tmp_path)
    opened, info = UnitMBartForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert base_fingerprint(opened) == base_fingerprint(lm)
    half = load_base(tmp_path, dtype="bfloat16")
    assert half.dtype == torch.bfloat16 and base_fingerprint(half) == base_fingerprint(lm)


@torch.no_grad()
def test_states_of_random_units_have_the_size_of_real_ones():
    lm = tiny_mbart()
    states = token_states(lm, 5, torch.Generator().manual_seed(0))
    assert [tuple(state.shape) for state in states] == [(5, MBART_WIDTH)] * (ENCODER_LAYERS + DECODER_LAYERS)
    # More than the positions hold are read in parts.
    assert len(token_states(lm, 90, torch.Generator().manual_seed(0))[-1]) == 90
    assert token_vectors(lm, 90, torch.Generator().manual_seed(0)).shape == (90, MBART_WIDTH)
    assert {layer.width for layer in lm.prompt_layers()} == {MBART_WIDTH}


def test_units_are_told_from_languages_and_mask():
    lm = tiny_mbart()
    assert lm.num_units == MBART_UNITS
    assert lm.max_utterance_tokens == 39
    assert tiny_mbart(inner_eos=False).max_utterance_tokens == 40


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_attention_heads": 3}, "hidden_size 16 cannot be divided among 3"),
        ({"vocab_size": 40}, "vocab_size is 40, but 4 special tokens, 26 units, 2 languages and 1 mask are 33"),
        ({"languages": ["en", "en"]}, "languages names one twice"),
        ({"languages": []}, "languages is \\[\\]"),
        ({"language": "fr"}, "language is 'fr'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings False"),
        ({"inner_eos": "x"}, "inner_eos is 'x'"),
        ({"has_mask": None}, "has_mask is 'None'"),
        ({"pad_token_id": 99}, "pad_token_id is 99"),
        ({"num_units": None}, "num_units None"),
    ],
)
def test_impossible_sizes_are_refused(fields, words):
    with pytest.raises(ConfigurationError, match=words):
        mbart_config(**fields)


def test_wrong_calls_are_refused():
    lm = tiny_mbart()
    inputs = lm.encoder_inputs(*pad(RAGGED_ROWS))
    with pytest.raises(ConfigurationError, match="exactly one of decoder_input_ids"):
        lm(**inputs)
    with pytest.raises(ConfigurationError, match="exactly one of input_ids"):
        lm(decoder_input_ids=SAID)
    with pytest.raises(ConfigurationError, match="no attention weights"):
        lm(**inputs, decoder_input_ids=SAID, output_attentions=True)
    with pytest.raises(UnitError, match="42 tokens, more than the base's 40 positions"):
        lm.read_utterances(*pad([[2, *[5] * 39, 0]]), None, at_separator=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 10**6}, "num_hidden_layers in config.json"),
        ({"num_encoder_layers": -1}, "num_encoder_layers in config.json"),
        ({"num_hidden_layers": DECODER_LAYERS + 1}, "has shape None, its config.json claims"),
        ({"num_units": 10**9}, "num_units in config.json"),
    ],
)
def test_a_base_that_claims_other_sizes_is_refused(tmp_path, change, words):
    import json

    tiny_mbart().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(AdapterError, match=words):
        load_base(tmp_path)
