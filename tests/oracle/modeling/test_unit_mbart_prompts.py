"""Deep prompts in encoder and decoder against transformers' own layers whose dummy columns are overwritten."""

import pytest
import torch
from torch import nn

from speechprompt_hf.modeling import DeepPrompt, SpeechPromptConfig
from tests.fixtures.tiny_models import RAGGED_ROWS, pad
from tests.fixtures.unit_mbarts import ENCODER_LAYERS, MBART_UNITS, MBART_WIDTH, stock_mbart, tiny_mbart

EN, NUM_COLUMNS = 4 + MBART_UNITS, 3


def overwrite(stack, layers, keys, values):
    """As the official decoder does: what is projected to keys and values of the first columns is the prompt's."""

    def put(vectors):
        def hook(module, inputs):
            (states,) = inputs
            prompt = vectors.to(states).expand(len(states), -1, -1)
            return (torch.cat([prompt, states[:, NUM_COLUMNS:]], 1),)

        return hook

    def positions(module, inputs, output):
        num_tokens = output.shape[-2] - NUM_COLUMNS
        rows = module.weight[2 : 2 + num_tokens]
        return torch.cat([torch.zeros(NUM_COLUMNS, MBART_WIDTH), rows]).unsqueeze(0)

    stack.embed_positions.register_forward_hook(positions)
    for layer, key, value in zip(layers, keys, values, strict=True):
        layer.self_attn.k_proj.register_forward_pre_hook(put(key))
        layer.self_attn.v_proj.register_forward_pre_hook(put(value))


@pytest.mark.parametrize("normalize_before", [True, False])
@torch.no_grad()
def test_keys_and_values_in_front_equal_overwritten_columns(normalize_before):
    lm = tiny_mbart(normalize_before=normalize_before)
    config = SpeechPromptConfig(
        num_virtual_tokens=NUM_COLUMNS,
        vocab_size=lm.config.vocab_size,
        hidden_size=MBART_WIDTH,
        separator_init="normal",
    )
    prompt = DeepPrompt(config, lm, torch.Generator().manual_seed(1)).eval()
    inputs = lm.encoder_inputs(*pad(RAGGED_ROWS))
    said = torch.tensor([[EN, 0, 7, 9], [EN, 0, 8, 12], [EN, 0, 21, 4]])
    ours = lm(**inputs, decoder_input_ids=said, prompt=prompt.states(lm))

    slow = stock_mbart(lm)
    encoder, decoder = slow.model.encoder, slow.model.decoder
    overwrite(encoder, encoder.layers, prompt.keys[:ENCODER_LAYERS], prompt.values[:ENCODER_LAYERS])
    overwrite(decoder, decoder.layers, prompt.keys[ENCODER_LAYERS:], prompt.values[ENCODER_LAYERS:])
    dummies = torch.zeros(len(said), NUM_COLUMNS, MBART_WIDTH)
    mask = nn.functional.pad(inputs["attention_mask"], (NUM_COLUMNS, 0), value=1)
    vectors = torch.cat([dummies, encoder.embed_tokens(inputs["input_ids"])], 1)
    encoded = encoder(inputs_embeds=vectors, attention_mask=mask).last_hidden_state[:, NUM_COLUMNS:]
    vectors = decoder.embed_tokens(said)
    vectors[:, 0] = prompt.separator_vector(lm) * MBART_WIDTH**0.5
    states = decoder(
        inputs_embeds=torch.cat([dummies, vectors], 1),
        encoder_hidden_states=encoded,
        encoder_attention_mask=inputs["attention_mask"],
    ).last_hidden_state[:, NUM_COLUMNS:]
    real = inputs["attention_mask"].bool()
    plain = lm(**inputs, decoder_input_ids=said)
    assert (ours.encoder_last_hidden_state[real] - encoded[real]).abs().max() < 2e-5
    assert (ours.logits - slow.lm_head(states)).abs().max() < 2e-5
    # The prompt reaches both stacks.
    assert (ours.encoder_last_hidden_state[real] - plain.encoder_last_hidden_state[real]).abs().max() > 0.05
    assert (ours.logits - plain.logits).abs().max() > 0.5
