"""Prompts, ours and stock PEFT's view of them, against an independent rendering of the official decoder."""

import pytest
import torch
from peft import PeftModel
from transformers import DynamicCache

from speechprompt_hf.modeling import GSLMForCausalLM, SpeechPromptForAudioClassification
from tests.fixtures.tiny_models import NUM_HEADS, PEFT_WARNING, RAGGED_ROWS, pad, tiny_lm
from tests.oracle.modeling.upstream_prompt import upstream_logits

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)
# float32 sums in another order, logits of scale 5.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny_lm(seed=5).save_pretrained(folder)
    return folder


@pytest.fixture(
    scope="module", params=[("deep", "projected"), ("deep", "table"), ("input", "projected")], ids="-".join
)
def model(request, base_folder):
    kind, parametrization = request.param
    return SpeechPromptForAudioClassification.from_base(
        base_folder,
        ["a", "b", "c"],
        prompt=kind,
        num_virtual_tokens=3,
        prompt_parametrization=parametrization,
        separator_init="normal",
    )


@pytest.fixture(scope="module")
def stock(model, base_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return PeftModel.from_pretrained(GSLMForCausalLM.from_pretrained(base_folder), folder).eval()


def reference(model, tokens):
    weights = {name: tensor.detach() for name, tensor in model.lm.state_dict().items()}
    prompt = model.prompt
    arguments = {
        "num_heads": NUM_HEADS,
        "separator": weights["model.embed_tokens.weight"][0] + prompt.separator_offset[0].detach(),
    }
    if model.config.prompt_type == "input":
        return upstream_logits(weights, tokens, prefix=prompt.vectors.detach(), **arguments)
    keys, values = prompt.keys.detach(), prompt.values.detach()
    if not prompt.projected:
        # The table holds keys and values; solve for inputs that the projections map to them.
        keys, values = (unproject(model, vectors, name) for vectors, name in ((keys, "k_proj"), (values, "v_proj")))
    # With deep prompts the input vectors are dead: anything may stand there.
    return upstream_logits(
        weights, tokens, prefix=torch.full((3, 32), 7.0), deep_keys=keys, deep_values=values, **arguments
    )


def unproject(model, vectors, name):
    solved = []
    for layer, wanted in zip(model.lm.model.layers, vectors, strict=True):
        projection = getattr(layer.self_attn, name)
        target = (wanted - projection.bias.detach()).double()
        solved.append(torch.linalg.solve(projection.weight.detach().double(), target.T).T.float())
    return solved


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_our_logits_equal_the_official_decoder(model, side):
    ids, mask = pad(RAGGED_ROWS, side)
    logits = model.lm(ids, attention_mask=mask, prompt=model.prompt.states(model.lm)).logits
    tolerance = 1e-2 if model.config.prompt_type == "deep" and not model.prompt.projected else TOLERANCE
    for row, keep, tokens in zip(logits, mask, RAGGED_ROWS, strict=True):
        assert (row[keep.bool()] - reference(model, tokens)).abs().max() < tolerance


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_stock_peft_gives_our_logits(model, stock, side):
    ids, mask = pad(RAGGED_ROWS, side)
    ours = model.lm(ids, attention_mask=mask, prompt=model.prompt.states(model.lm)).logits
    theirs = stock(input_ids=ids, attention_mask=mask).logits[:, -ids.shape[1] :]
    without = model.lm(ids, attention_mask=mask).logits
    real = mask.bool()
    assert (ours - theirs)[real].abs().max() < TOLERANCE
    assert (ours - without)[real].abs().max() > 0.5


@torch.no_grad()
def test_stock_peft_without_a_mask(model, stock):
    ids = torch.tensor([RAGGED_ROWS[0]])
    ours = model.lm(ids, prompt=model.prompt.states(model.lm)).logits
    assert (stock(input_ids=ids).logits[:, -ids.shape[1] :] - ours).abs().max() < TOLERANCE


@torch.no_grad()
def test_explicit_positions_through_stock_prefix_tuning(model, stock):
    if model.config.prompt_type == "input":
        pytest.skip("prompt tuning drops position_ids")
    ids = torch.tensor([RAGGED_ROWS[0]])
    positions = torch.arange(ids.shape[1]).unsqueeze(0)
    assert torch.equal(stock(input_ids=ids, position_ids=positions).logits, stock(input_ids=ids).logits)
    shifted = stock(input_ids=ids, position_ids=positions + 3).logits
    assert (shifted - stock(input_ids=ids).logits).abs().max() > 0.1


@torch.no_grad()
def test_a_prompt_that_shifts_tokens_is_another_model(model):
    """What stock models do with prompts: tokens counted from P on. It must not equal the official decoder."""
    ids = torch.tensor([RAGGED_ROWS[0]])
    states = model.prompt.states(model.lm)
    shifted = model.lm(ids, prompt=states, position_ids=torch.arange(ids.shape[1]).unsqueeze(0) + 3).logits[0]
    assert (shifted - reference(model, RAGGED_ROWS[0])).abs().max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("own", [True, False], ids=["ours", "stock"])
def test_left_padded_generation_equals_a_cache_free_greedy_loop(model, stock, own):
    ids, mask = pad(RAGGED_ROWS, "left")
    peft_model = model.to_peft() if own else stock
    generated = peft_model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=8, do_sample=False, eos_token_id=None
    )
    tolerance_free = model.config.prompt_type == "input" or model.prompt.projected
    for tokens, row in zip(RAGGED_ROWS, generated, strict=True):
        said = list(tokens)
        for _ in range(8):
            logits = reference(model, said)[-1] if tolerance_free else prompted(model, said)
            said.append(int(logits.argmax()))
        assert row[-8:].tolist() == said[-8:]


def prompted(model, tokens):
    return model.lm(torch.tensor([tokens]), prompt=model.prompt.states(model.lm), use_cache=False).logits[0, -1]


@torch.no_grad()
def test_base_generation_equals_a_cache_free_greedy_loop(base_folder):
    lm = GSLMForCausalLM.from_pretrained(base_folder)
    ids, mask = pad(RAGGED_ROWS, "left")
    generated = lm.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=False, eos_token_id=None)
    for tokens, row in zip(RAGGED_ROWS, generated, strict=True):
        said = list(tokens)
        for _ in range(8):
            said.append(int(lm(torch.tensor([said]), use_cache=False).logits[0, -1].argmax()))
        assert row[-8:].tolist() == said[-8:]


@torch.no_grad()
def test_a_disabled_adapter_is_the_base_exactly(model, stock):
    ids, mask = pad(RAGGED_ROWS)
    expected = model.lm(ids, attention_mask=mask).logits
    with stock.disable_adapter():
        assert torch.equal(stock(input_ids=ids, attention_mask=mask).logits, expected)
        generated = stock.generate(input_ids=ids[:1, :6], max_new_tokens=5, do_sample=False, eos_token_id=None)
    assert torch.equal(generated, model.lm.generate(ids[:1, :6], max_new_tokens=5, do_sample=False, eos_token_id=None))


@torch.no_grad()
def test_two_adapters_of_other_lengths_do_not_disturb_each_other(model, base_folder, tmp_path):
    models = {
        name: SpeechPromptForAudioClassification.from_base(
            base_folder,
            ["a", "b"],
            prompt=model.config.prompt_type,
            num_virtual_tokens=length,
            separator_init="normal",
            seed=length,
        )
        for name, length in (("short", 2), ("long", 5))
    }
    for name, other in models.items():
        other.save_pretrained(tmp_path / name)
    lm = GSLMForCausalLM.from_pretrained(base_folder)
    peft_model = PeftModel.from_pretrained(lm, tmp_path / "short", adapter_name="short").eval()
    peft_model.load_adapter(tmp_path / "long", "long")
    ids, mask = pad(RAGGED_ROWS)
    for name in ("short", "long", "short"):
        peft_model.set_adapter(name)
        other = models[name]
        ours = other.lm(ids, attention_mask=mask, prompt=other.prompt.states(other.lm)).logits
        theirs = peft_model(input_ids=ids, attention_mask=mask).logits[:, -ids.shape[1] :]
        assert (ours - theirs)[mask.bool()].abs().max() < TOLERANCE


@torch.no_grad()
def test_masked_prompt_columns_leave_the_base_untouched(base_folder):
    """A cache of arbitrary columns whose mask is 0 equals no prompt: prompts shift nothing by themselves."""
    lm = GSLMForCausalLM.from_pretrained(base_folder)
    ids = torch.tensor([[2, 5, 9, 12, 7]])
    cache = DynamicCache(config=lm.config)
    for index in range(2):
        cache.update(torch.randn(1, NUM_HEADS, 3, 8), torch.randn(1, NUM_HEADS, 3, 8), index)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    logits = lm(ids, attention_mask=mask, past_key_values=cache).logits
    assert (logits - lm(ids).logits).abs().max() < TOLERANCE


@torch.no_grad()
def test_one_prompt_a_row(model):
    """Rows of different prompts in one batch equal each row with its own prompt."""
    other = SpeechPromptForAudioClassification.from_base(
        model.lm, ["a", "b"], prompt=model.config.prompt_type, num_virtual_tokens=3, separator_init="normal", seed=9
    )
    first, second = model.prompt.states(model.lm), other.prompt.states(model.lm)
    ids, mask = pad(RAGGED_ROWS[:2])

    def pair(left, right):
        return None if left is None else torch.stack([left, right])

    def pairs(left, right):
        return None if left is None else tuple(pair(a, b) for a, b in zip(left, right, strict=True))

    both = type(first)(
        separator=pair(first.separator, second.separator),
        inputs=pair(first.inputs, second.inputs),
        keys=pairs(first.keys, second.keys),
        values=pairs(first.values, second.values),
    )
    together = model.lm(ids, attention_mask=mask, prompt=both).logits
    for index, states in enumerate((first, second)):
        alone = model.lm(ids[index : index + 1], attention_mask=mask[index : index + 1], prompt=states).logits[0]
        assert (together[index] - alone)[mask[index].bool()].abs().max() < TOLERANCE
