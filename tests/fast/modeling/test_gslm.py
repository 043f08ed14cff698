"""GSLM: configuration, loading, caches, generation, gradient checkpointing."""

import warnings

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, DynamicCache

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.modeling import GSLMConfig, GSLMForCausalLM, GSLMModel, PromptStates
from speechprompt_hf.modeling.positions import SinusoidalPositions, count_positions
from tests.fixtures.tiny_models import (
    HIDDEN_SIZE,
    NUM_HEADS,
    RAGGED_ROWS,
    VOCAB_SIZE,
    count_calls,
    pad,
    tiny_config,
    tiny_lm,
)


@pytest.fixture(scope="module")
def lm():
    return tiny_lm()


@pytest.fixture(scope="module")
def folder(lm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    lm.save_pretrained(folder)
    return folder


def test_default_sizes_are_the_released_models():
    with torch.device("meta"):
        lm = GSLMForCausalLM(GSLMConfig())
    separator = sum(parameter.numel() for name, parameter in lm.named_parameters() if "separator" in name)
    assert sum(parameter.numel() for parameter in lm.parameters()) - separator == 151_263_232


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 33, "num_attention_heads": 3}, "hidden_size is 33"),
        ({"num_attention_heads": 5}, "cannot be divided among 5"),
        ({"vocab_size": 4}, "vocab_size is 4"),
    ],
)
def test_impossible_sizes_are_refused(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        tiny_config(**fields)


def test_loading_a_plain_language_model_is_silent_and_deterministic(folder, lm):
    assert not [name for name in load_file(folder / "model.safetensors") if "separator" in name]
    for auto_class in (AutoModel, AutoModelForCausalLM):
        loaded, info = auto_class.from_pretrained(folder, output_loading_info=True)
        assert not any(info.values())
        decoder = loaded.model if isinstance(loaded, GSLMForCausalLM) else loaded
        assert decoder.embed_tokens.separator.offset.abs().max() == 0
        assert decoder.embed_tokens.separator.num_prompt_columns == 0
    ids = torch.tensor([RAGGED_ROWS[0]])
    reloaded = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(reloaded(ids).logits, lm(ids).logits)
    assert reloaded.lm_head.weight is reloaded.model.embed_tokens.weight
    assert isinstance(AutoConfig.from_pretrained(folder), GSLMConfig)


def test_the_decoder_saves_no_separator_either(lm, tmp_path):
    lm.model.save_pretrained(tmp_path)
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "separator" in name]
    _, info = GSLMModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())


def test_separators_stay_in_float32(folder):
    lm = GSLMForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert lm.dtype == torch.bfloat16
    offset = lm.model.embed_tokens.separator.offset
    assert offset.dtype == torch.float32
    assert not offset.requires_grad
    assert lm(torch.tensor([RAGGED_ROWS[0]])).logits.dtype == torch.bfloat16


def test_row_one_of_the_positions_is_zero_and_the_first_token_has_row_two():
    table = SinusoidalPositions.make_table(6, 8)
    assert table[1].abs().max() == 0
    assert torch.allclose(table[2, 0], torch.tensor(2.0).sin())
    assert torch.allclose(table[2, 4], torch.tensor(2.0).cos())
    positions = SinusoidalPositions(4, 8)
    assert torch.equal(positions(torch.tensor([[-1, 0, 3]]), 4), table[[1, 2, 5]].unsqueeze(0))


def test_counted_positions():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    expected = [[-1, -1, 0, 1, 2], [0, 1, 2, -1, -1]]
    assert count_positions(mask, past_length=0, num_tokens=5).tolist() == expected
    assert count_positions(mask.float(), past_length=3, num_tokens=2).tolist() == [[1, 2], [-1, -1]]
    ones = torch.ones(1, 5)
    assert count_positions(ones, past_length=2, num_tokens=3, num_prompt_columns=2).tolist() == [[0, 1, 2]]
    assert count_positions(None, past_length=0, num_tokens=4, num_prompt_columns=2).tolist() == [[-1, -1, 0, 1]]


@torch.no_grad()
@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "keep", [1, 3, torch.tensor([0, 4]), torch.tensor([[5], [7], [2]]), torch.tensor([[-1], [0], [1]])]
)
def test_kept_logits_equal_all_logits(attn_implementation, keep):
    lm = tiny_lm(attn_implementation=attn_implementation)
    ids, mask = pad(RAGGED_ROWS)
    for attention_mask in (mask, None):
        everything = lm(ids, attention_mask=attention_mask).logits
        kept = lm(ids, attention_mask=attention_mask, logits_to_keep=keep).logits
        if isinstance(keep, int):
            expected = everything[:, -keep:]
        else:
            index = keep.expand(3, -1) if keep.dim() == 1 else keep % ids.shape[1]
            expected = everything.gather(1, index.unsqueeze(-1).expand(-1, -1, VOCAB_SIZE))
        assert (kept - expected).abs().max() < 1e-5


@torch.no_grad()
def test_both_names_of_the_cache(lm):
    ids = torch.tensor([RAGGED_ROWS[1]])
    expected = lm(ids).logits[:, 5:]
    for name in ("past_key_values", "cache"):
        cache = DynamicCache(config=lm.config)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            lm(ids[:, :5], **{name: cache})
            assert (lm(ids[:, 5:], **{name: cache}).logits - expected).abs().max() < 1e-5
    with pytest.raises(ConfigurationError, match="two caches"):
        lm(ids, past_key_values=DynamicCache(), cache=DynamicCache())


@torch.no_grad()
def test_static_cache_generation(lm):
    ids, mask = pad([row[:-1] for row in RAGGED_ROWS], "left")
    options = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    static = lm.generate(ids, cache_implementation="static", disable_compile=True, **options)
    assert torch.equal(static, lm.generate(ids, **options))


@torch.no_grad()
def test_sampling_several_continuations(lm):
    output = lm.generate(
        torch.tensor([[2, 5]]), max_new_tokens=4, do_sample=True, num_return_sequences=3, eos_token_id=None
    )
    assert output.shape == (3, 6)


@torch.no_grad()
def test_restarting_positions_separate_packed_sequences(lm):
    first, second = RAGGED_ROWS[0], RAGGED_ROWS[1]
    positions = torch.tensor([[*range(len(first)), *range(len(second))]])
    packed = lm(torch.tensor([[*first, *second]]), position_ids=positions, use_cache=False).logits[0]
    assert (packed[: len(first)] - lm(torch.tensor([first])).logits[0]).abs().max() < 1e-5
    assert (packed[len(first) :] - lm(torch.tensor([second])).logits[0]).abs().max() < 1e-5


@torch.no_grad()
def test_hidden_states_and_attentions(lm):
    ids, mask = pad(RAGGED_ROWS)
    output = tiny_lm(attn_implementation="eager")(ids, mask, output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 3
    assert len(output.attentions) == 2
    assert output.attentions[0].shape == (3, NUM_HEADS, 8, 8)
    last = lm.model(ids, mask).last_hidden_state
    assert (output.hidden_states[-1] - last)[mask.bool()].abs().max() < 1e-5
    kept = lm(ids, mask, output_hidden_states=True, logits_to_keep=torch.tensor([[3], [2], [1]]))
    assert kept.hidden_states[0].shape == (3, 8, HIDDEN_SIZE)
    assert isinstance(lm(ids, mask, return_dict=False), tuple)


@torch.no_grad()
def test_dropout_acts_in_training_only():
    lm = tiny_lm(dropout=0.5)
    ids = torch.tensor([RAGGED_ROWS[0]])
    assert torch.equal(lm(ids).logits, lm(ids).logits)
    lm.train()
    assert not torch.equal(lm(ids).logits, lm(ids).logits)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(reentrant):
    ids, mask = pad(RAGGED_ROWS)
    keys = torch.randn(2, 3, NUM_HEADS, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    gradients = []
    for checkpointing in (False, True):
        lm = tiny_lm(dropout=0.0, attention_dropout=0.0).train()
        if checkpointing:
            lm.activation_checkpointing_enable({"use_reentrant": reentrant})
        prompt = PromptStates(keys=tuple(keys), values=tuple(keys))
        keys.grad = None
        calls = count_calls(lm.model.layers[0].fc1)
        lm(ids, mask, labels=ids.masked_fill(mask == 0, -100), prompt=prompt).loss.backward()
        assert len(calls) == 1 + checkpointing
        gradients.append((keys.grad.clone(), lm.model.layers[0].fc1.weight.grad))
    for plain, checkpointed in zip(*gradients, strict=True):
        assert plain.abs().max() > 0
        assert torch.allclose(plain, checkpointed, atol=1e-6)


def test_a_cache_with_gradient_checkpointing_is_refused():
    lm = tiny_lm().train()
    lm.activation_checkpointing_enable()
    with pytest.raises(ConfigurationError, match="cannot be combined with gradient checkpointing"):
        lm(torch.tensor([[2, 5]]), past_key_values=DynamicCache())


def test_one_kind_of_input_is_needed(lm):
    for arguments in ({}, {"input_ids": torch.tensor([[2]]), "inputs_embeds": torch.zeros(1, 1, HIDDEN_SIZE)}):
        with pytest.raises(ConfigurationError, match="exactly one of input_ids and inputs_embeds"):
            lm(**arguments)


def test_a_four_dimensional_mask_cannot_show_input_prompts(lm):
    prompt = PromptStates(inputs=torch.zeros(2, HIDDEN_SIZE))
    with pytest.raises(ConfigurationError, match="does not say what input prompts see"):
        lm(torch.tensor([[2, 5]]), attention_mask=torch.ones(1, 1, 2, 2, dtype=torch.bool), prompt=prompt)


@torch.no_grad()
def test_loss_divides_by_the_items_of_the_whole_batch(lm):
    ids = torch.tensor([RAGGED_ROWS[0]])
    mean = lm(ids, labels=ids).loss
    assert torch.isclose(lm(ids, labels=ids, num_items_in_batch=10).loss, mean * 5 / 10)


@torch.no_grad()
def test_the_separator_replaces_the_input_row_only(lm):
    ids = torch.tensor([RAGGED_ROWS[0]])
    expected = lm(ids).logits
    separator = lm.model.embed_tokens.weight[0] + 1.0
    prompted = lm(ids, prompt=PromptStates(separator=separator)).logits
    assert torch.equal(prompted[:, :-1], expected[:, :-1])
    assert not torch.equal(prompted[:, -1], expected[:, -1])
    alone = torch.nn.functional.embedding(ids, lm.model.embed_tokens.weight)
    alone[0, -1] = separator
    by_hand = lm(inputs_embeds=alone * HIDDEN_SIZE**0.5).logits
    assert (prompted - by_hand).abs().max() < 1e-5


def test_a_new_model_starts_as_in_fairseq():
    torch.manual_seed(0)
    layer = GSLMForCausalLM(GSLMConfig(hidden_size=256, num_hidden_layers=1, num_attention_heads=4)).model.layers[0]
    # Standard deviation of Xavier's uniform distribution: gain · sqrt(2 / (fan_in + fan_out)).
    for name, gain in (("q_proj", 2**-0.5), ("k_proj", 2**-0.5), ("v_proj", 2**-0.5), ("out_proj", 1.0)):
        projection = getattr(layer.self_attn, name)
        assert float(projection.weight.detach().std()) == pytest.approx(gain * (2 / 512) ** 0.5, rel=0.02)
        assert not projection.bias.any()
