"""Converted mBARTs against fairseq itself: teacher forcing, padding, generation."""

import pytest
import torch

pytest.importorskip("fairseq", reason="fairseq is not installed here")

from speechprompt_hf.convert.unit_mbart import convert_unit_mbart
from speechprompt_hf.modeling import UnitMBartForConditionalGeneration
from tests.fixtures.unit_mbarts import write_dictionary
from tests.golden.make_unit_mbart import SOURCE, UNITS, VARIANTS, greedy, logits_of, make_model

# torch's own warnings in fairseq's old code.
pytestmark = pytest.mark.filterwarnings("ignore")
SIZES = {
    "encoder_embed_dim": 64,
    "encoder_ffn_embed_dim": 160,
    "encoder_layers": 4,
    "decoder_layers": 5,
    "max_source_positions": 128,
    "max_target_positions": 128,
}


def converted(tmp_path, **settings):
    model, args = make_model(**settings)
    torch.save({"args": args, "model": model.state_dict()}, tmp_path / "checkpoint.pt")
    units = settings.get("units", UNITS)
    dictionary = write_dictionary(tmp_path / "dict.txt", range(units))
    convert_unit_mbart(tmp_path / "checkpoint.pt", tmp_path / "lm", dictionary)
    return model, UnitMBartForConditionalGeneration.from_pretrained(tmp_path / "lm").eval()


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_teacher_forced_logits_with_padding(tmp_path, variant, activation):
    # Matrices of ordinary size: with larger ones float32 itself is not that exact.
    options = {**VARIANTS[variant], **SIZES, "units": 100, "weight_std": 0.1, "activation_fn": activation}
    theirs, ours = converted(tmp_path, **options)
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(4, 104, (4, 120), generator=generator)
    said = torch.randint(4, 104, (4, 90), generator=generator)
    source[:, 0], said[:, 0], said[:, 1] = 0, 104, 0
    for row, length in enumerate((120, 77, 12, 3)):
        source[row, length - 1], source[row, length:] = 104, 1
    found = ours(source, attention_mask=source.ne(1).long(), decoder_input_ids=said).logits
    expected = logits_of(theirs, source, said)
    assert expected.std() > 0.5
    assert (found - expected).abs().max() < 2e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_generation(tmp_path, variant):
    theirs, ours = converted(tmp_path, **VARIANTS[variant])
    source = torch.tensor(SOURCE)
    said = ours.generate(source, attention_mask=source.ne(1).long(), max_new_tokens=26, do_sample=False)
    for found, expected in zip(said.tolist(), greedy(theirs, source, 25), strict=True):
        assert found[1 : 1 + len(expected)] == expected
        assert set(found[1 + len(expected) :]) <= {1}
