"""Token ids outside a model's vocabulary are an error that names the id and the size, and checking costs no pass."""

import pytest
import torch
from torch import nn

from speechprompt_hf import SpeechPromptForAudioClassification
from speechprompt_hf.core.errors import UnitError
from tests.fixtures.stock_unit_lms import wrapped
from tests.fixtures.tiny_models import tiny_lm
from tests.fixtures.unit_mbarts import tiny_mbart


@pytest.fixture(params=["gslm", "unit_mbart", "opt"])
def lm(request, tmp_path):
    makers = {"gslm": tiny_lm, "unit_mbart": tiny_mbart, "opt": lambda: wrapped("opt", tmp_path)[1]}
    return makers[request.param]().eval()


def run(lm, ids, said=4):
    decoder = {"decoder_input_ids": torch.full((len(ids), 2), said)} if lm.config.is_encoder_decoder else {}
    return lm(input_ids=ids, **decoder)


@pytest.mark.parametrize("below", [False, True])
def test_an_id_outside_the_vocabulary_is_named(lm, below):
    size = lm.config.vocab_size
    token = -1 if below else size
    message = rf"token id {token} is outside the vocabulary of {size} tokens, 0 to {size - 1}"
    ids = torch.tensor([[2, 4, token, 0], [2, 4, 5, 0]])
    with pytest.raises(UnitError, match=message):
        run(lm, ids)
    if lm.config.is_encoder_decoder:
        with pytest.raises(UnitError, match=message):
            run(lm, torch.tensor([[2, 4, 0]]), said=token)
    classifier = SpeechPromptForAudioClassification.from_base(lm, ["no", "yes"], num_virtual_tokens=2)
    with pytest.raises(UnitError, match=message):
        classifier(input_ids=ids)


def test_the_last_id_is_inside(lm):
    run(lm, torch.tensor([[2, lm.config.vocab_size - 1, 0]]), said=lm.config.vocab_size - 1)


def test_an_embedding_looks_at_ids_only_after_a_failure(monkeypatch):
    lm = tiny_lm()
    seen = []
    monkeypatch.setattr(nn.Embedding, "forward", lambda self, ids: seen.append(ids) or torch.zeros(*ids.shape, 1))
    # Ids of the meta device have no values: reading one would be an error.
    lm.model.embed_tokens(torch.empty(1, 3, dtype=torch.long, device="meta"), separator=False)
    assert len(seen) == 1


def test_a_compiled_graph_stays_whole():
    lm = tiny_lm().eval()
    ids = torch.tensor([[2, 4, 5, 0]])
    compiled = torch.compile(lm, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert torch.equal(compiled(ids, use_cache=False).logits, lm(ids, use_cache=False).logits)
