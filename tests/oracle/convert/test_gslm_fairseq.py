"""A converted language model against fairseq's own: plain, padded on either side, and token by token."""

import pytest
import torch

from tests.fixtures.fairseq_import import import_or_skip

official = import_or_skip("tests.oracle.convert.official_method")

from speechprompt_hf.convert.gslm import convert_gslm  # noqa: E402
from speechprompt_hf.modeling import GSLMForCausalLM  # noqa: E402
from tests.fixtures.tiny_models import pad, real_rows  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
TOLERANCE = 2e-5
SIZES = {
    "tiny": (24, 40, 2, 4, 20, (3, 17, 11, 2)),
    "wide": (1024, 4096, 2, 16, 100, (40, 121)),
}


@pytest.fixture(scope="module", params=list(SIZES))
def both(request, tmp_path_factory):
    """fairseq's model, ours, and rows of tokens."""
    width, inner, layers, heads, units, lengths = SIZES[request.param]
    folder = tmp_path_factory.mktemp("lm")
    generator = torch.Generator().manual_seed(1)
    order = torch.randperm(units, generator=generator).tolist()
    (folder / "dict.txt").write_text("".join(f"{unit} {1000 - place}\n" for place, unit in enumerate(order)))
    dictionary = official.load_dictionary(folder / "dict.txt")
    settings = official.language_model_settings(width, inner, layers, heads)
    # Logits of scale 10, as wide sums of large weights would make them a hundred.
    theirs = official.random_language_model(settings, dictionary, std=0.3 if width < 100 else 0.06)
    torch.save({"args": settings, "model": theirs.state_dict()}, folder / "checkpoint_best.pt")
    convert_gslm(folder / "checkpoint_best.pt", folder / "lm", folder / "dict.txt")
    rows = [[2, *torch.randint(4, 4 + units, (n,), generator=generator).tolist()] for n in lengths]
    return theirs, GSLMForCausalLM.from_pretrained(folder / "lm").eval(), rows


@pytest.fixture(scope="module")
def expected(both):
    """fairseq's logits of each row by itself."""
    theirs, _, rows = both
    with torch.no_grad():
        logits = [theirs(torch.tensor([row]))[0][0] for row in rows]
    assert max(values.abs().max() for values in logits) > 3
    return logits


def farthest(found, expected):
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))


@torch.no_grad()
def test_rows_by_themselves(both, expected, record_property):
    _, ours, rows = both
    difference = farthest([ours(torch.tensor([row])).logits[0] for row in rows], expected)
    record_property("largest difference", difference)
    assert difference < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("side", ["right", "left"])
def test_padded_batches(both, expected, side, record_property):
    _, ours, rows = both
    ids, mask = pad(rows, side)
    difference = farthest(real_rows(ours(ids, attention_mask=mask).logits, mask), expected)
    record_property("largest difference", difference)
    assert difference < TOLERANCE


@torch.no_grad()
def test_fairseq_s_own_padded_batch(both):
    theirs, ours, rows = both
    ids, mask = pad(rows)
    found = real_rows(ours(ids, attention_mask=mask).logits, mask)
    assert farthest(found, real_rows(theirs(ids)[0], mask)) < TOLERANCE


@torch.no_grad()
def test_token_by_token(both, expected, record_property):
    """fairseq's incremental state and our cache, also where ours has rows of other lengths beside it."""
    theirs, ours, rows = both
    ids, mask = pad(rows, "left")
    cache, found = None, []
    for column in range(ids.shape[1]):
        output = ours(
            ids[:, column : column + 1], attention_mask=mask[:, : column + 1], past_key_values=cache, use_cache=True
        )
        cache = output.past_key_values
        found.append(output.logits[:, 0])
    found = real_rows(torch.stack(found, dim=1), mask)
    differences = [farthest(found, expected)]
    for row, values in zip(rows, found, strict=True):
        state: dict = {}
        steps = [
            theirs(torch.tensor([row[: length + 1]]), incremental_state=state)[0][0, -1] for length in range(len(row))
        ]
        differences.append(float((torch.stack(steps) - values).abs().max()))
    record_property("largest difference", max(differences))
    assert max(differences) < TOLERANCE


def test_fairseq_reads_what_it_was_made_of(both):
    """The parameters are the same number: nothing was added or lost on the way."""
    theirs, ours, _ = both
    separator = ours.get_input_embeddings().separator
    own = sum(parameter.numel() for parameter in theirs.parameters())
    assert ours.num_parameters() - sum(parameter.numel() for parameter in separator.parameters()) == own
