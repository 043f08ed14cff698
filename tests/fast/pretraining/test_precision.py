"""bfloat16 is used only where the processor has it."""

import pytest
import torch

from speechprompt_hf.pretraining.precision import computes_bfloat16


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16"])
def test_cpu_with_bfloat16(monkeypatch, name):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, name: True})
    assert computes_bfloat16("cpu")


def test_cpu_without_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert not computes_bfloat16(torch.device("cpu"))


def test_device_without_a_rule():
    assert not computes_bfloat16("meta")
