"""Sub-folders, audio and rounded bases."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch

from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from tests.fixtures.many_adapters import logits_of, open_all
from tests.fixtures.tiny_models import (
    PEFT_WARNING,
    RAGGED_ROWS,
    pad,
)

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


def test_an_adapter_of_a_subfolder(folders, alone):
    model = SpeechPromptForAudioClassification.from_pretrained(folders / "deep")
    model.load_adapter(folders, "probe", subfolder="probe", revision=None)
    model.set_adapter("probe")
    assert torch.equal(logits_of(model), logits_of(alone["probe"]))


def test_audio_with_an_adapter_a_row(many, alone):
    class StandInProcessor:
        """Units are the integer parts of the samples."""

        fingerprint = {"digest": "units"}  # noqa: RUF012

        def to(self, device):
            return self

        def units_from_values(self, input_values, attention_mask=None):
            return [SimpleNamespace(units=row.long()) for row in input_values]

        def prepare_units(self, units, return_tensors):
            ids, mask = pad([[2, *(row + 4).tolist(), 0] for row in units])
            return {"input_ids": ids, "attention_mask": mask}

    model = deepcopy(many).attach_processor(StandInProcessor())
    with torch.no_grad():
        mixed = model(input_values=torch.tensor([[1.5, 7.2], [3.0, 9.9]]), adapter_names=["probe", "intents"]).logits
    assert (mixed[0] - logits_of(alone["probe"], [[2, 5, 11, 0]])[0]).abs().max() < 1e-4
    assert (mixed[1, :5] - logits_of(alone["intents"], [[2, 7, 13, 0]])[0]).abs().max() < 1e-4


def test_a_rounded_base(folders):
    """Prompts are kept in float32; rows are what each task alone gives in that precision."""
    model = open_all(folders, dtype=torch.bfloat16)
    assert model.lm.dtype == torch.bfloat16
    assert model._adapters["input"].prompt.vectors.dtype == torch.float32
    ids, mask = pad(RAGGED_ROWS[:2])
    with torch.no_grad():
        mixed = model(ids, mask, adapter_names=["input", "default"]).logits
        expected = model(ids, mask).logits[1]
    assert (mixed[1, :3] - expected).abs().max() < 0.05 * expected.abs().max()
