import pytest
import torch

from speechprompt_hf.core.devices import usable_device
from speechprompt_hf.core.errors import ConfigurationError

# "hpu" fails with ModuleNotFoundError, "meta" makes tensors without values, "tpu" is no name, "cuda:99" is not there.
ABSENT = ["hpu", "meta", "tpu", "cuda:99", "mps"]


@pytest.mark.parametrize("name", ABSENT)
def test_a_device_that_cannot_be_used_is_named(name):
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(ConfigurationError, match=f"the device '{name}' cannot be used here: .") as caught:
        usable_device(name)
    assert "cpu" in caught.value.hint


def test_without_a_name_it_is_the_best_one():
    assert usable_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert usable_device(torch.device("cpu")) == usable_device("cpu") == torch.device("cpu")
