"""GSLM against `XGLMForCausalLM(activation_function="relu")` on the same random weights."""

import pytest
import torch
from transformers import DynamicCache, XGLMConfig, XGLMForCausalLM

from tests.fixtures.tiny_models import (
    HIDDEN_SIZE,
    NUM_HEADS,
    NUM_LAYERS,
    RAGGED_ROWS,
    VOCAB_SIZE,
    pad,
    randomize,
    tiny_lm,
)

# float32 sums of 32 terms in another order.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def xglm():
    model = XGLMForCausalLM(
        XGLMConfig(
            vocab_size=VOCAB_SIZE,
            d_model=HIDDEN_SIZE,
            ffn_dim=48,
            num_layers=NUM_LAYERS,
            attention_heads=NUM_HEADS,
            activation_function="relu",
            max_position_embeddings=40,
            dropout=0.0,
            attention_dropout=0.0,
        )
    )
    randomize(model, seed=3)
    return model.eval()


@pytest.fixture(params=["sdpa", "eager"])
def gslm(request, xglm):
    model = tiny_lm(attn_implementation=request.param)
    missing, unexpected = model.load_state_dict(xglm.state_dict(), strict=False)
    assert all("separator" in name for name in missing)
    assert not unexpected
    return model


def difference(ours, theirs, mask):
    return ((ours - theirs).abs().amax(-1) * mask).max().item()


@torch.no_grad()
def test_logits_without_padding(gslm, xglm):
    ids = torch.randint(4, VOCAB_SIZE, (3, 20), generator=torch.Generator().manual_seed(0))
    expected = xglm(ids).logits
    assert expected.std() > 0.5
    assert (gslm(ids).logits - expected).abs().max() < TOLERANCE


@torch.no_grad()
def test_logits_with_right_padding(gslm, xglm):
    ids, mask = pad(RAGGED_ROWS)
    assert difference(gslm(ids, mask).logits, xglm(ids, attention_mask=mask).logits, mask) < TOLERANCE


@torch.no_grad()
def test_logits_with_left_padding(gslm, xglm):
    ids, mask = pad(RAGGED_ROWS, "left")
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    theirs = xglm(ids, attention_mask=mask, position_ids=positions).logits
    ours = gslm(ids, mask).logits
    assert not ours.isnan().any()
    assert difference(ours, theirs, mask) < TOLERANCE
    # XGLM's own positions count padding; ours must not agree with them.
    assert difference(ours, xglm(ids, attention_mask=mask).logits, mask) > 0.1


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_with_cache(gslm, xglm, side):
    ids, mask = pad(RAGGED_ROWS, side)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    theirs = xglm(ids, attention_mask=mask, position_ids=positions).logits
    cache, pieces = DynamicCache(config=gslm.config), []
    for start in range(0, ids.shape[1], 3):
        end = min(start + 3, ids.shape[1])
        output = gslm(ids[:, start:end], attention_mask=mask[:, :end], past_key_values=cache, use_cache=True)
        pieces.append(output.logits)
    assert difference(torch.cat(pieces, 1), theirs, mask) < TOLERANCE


@torch.no_grad()
def test_positions_beyond_the_table(gslm, xglm):
    ids = torch.randint(4, VOCAB_SIZE, (1, 60), generator=torch.Generator().manual_seed(1))
    assert (gslm(ids).logits - xglm(ids).logits).abs().max() < TOLERANCE
    assert gslm.model.embed_positions.table.shape[0] > 60


@torch.no_grad()
def test_generation_from_a_left_padded_batch(gslm, xglm):
    ids, mask = pad([row[:-1] for row in RAGGED_ROWS], "left")
    options = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    ours = gslm.generate(ids, **options)
    assert torch.equal(ours, xglm.generate(ids, **options))
    for row, keep, full in zip(ids, mask, ours, strict=True):
        alone = gslm.generate(row[keep.bool()].unsqueeze(0), max_new_tokens=8, do_sample=False, eos_token_id=None)
        assert torch.equal(alone[0, -8:], full[-8:])


@torch.no_grad()
def test_beam_search(gslm, xglm):
    ids, mask = pad([row[:-1] for row in RAGGED_ROWS], "left")
    options = {"attention_mask": mask, "max_new_tokens": 5, "num_beams": 3, "do_sample": False, "eos_token_id": None}
    assert torch.equal(gslm.generate(ids, **options), xglm.generate(ids, **options))


def test_loss_and_gradients(gslm, xglm):
    ids, mask = pad(RAGGED_ROWS)
    labels = ids.masked_fill(mask == 0, -100)
    ours, theirs = gslm(ids, mask, labels=labels), xglm(ids, attention_mask=mask, labels=labels)
    assert abs(ours.loss - theirs.loss) < TOLERANCE
    ours.loss.backward()
    theirs.loss.backward()
    gradients = dict(xglm.named_parameters())
    for name, parameter in gslm.named_parameters():
        if "separator" not in name:
            assert (parameter.grad - gradients[name].grad).abs().max() < 1e-4, name
    xglm.zero_grad()
