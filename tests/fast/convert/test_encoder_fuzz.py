"""Mutated HuBERT checkpoints: a folder, or a typed error and no trace; never anything executed."""

import os
import shutil

import numpy as np
import pytest
import torch
from transformers import HubertModel

from speechprompt_hf.convert.encoder import convert_encoder
from speechprompt_hf.convert.errors import ConversionError
from tests.fixtures.effort import rounds
from tests.fixtures.mutations import mutated, saved, with_mutated_pickle
from tests.golden.hubert import VARIANTS, hubert_checkpoint


def with_mutated_settings(content: dict, generator: np.random.Generator) -> None:
    """Settings of impossible values and types, and keys that are absent, renamed or of another shape."""
    values = [None, -1, 0, 3, 10**12, 1.5, float("nan"), "", "x" * 2000, [], {}, True, b"y", ("a", 1)]
    for _ in range(generator.integers(1, 4)):
        part = content["cfg"]["model" if generator.random() < 0.7 else "task"]
        key = sorted(part)[generator.integers(len(part))]
        part[key] = values[generator.integers(len(values))]
    state = content["model"]
    key = sorted(state)[generator.integers(len(state))]
    match generator.integers(0, 5):
        case 0:
            del state[key]
        case 1:
            state[key + ".more"] = state.pop(key)
        case 2:
            state[key] = torch.zeros(tuple(generator.integers(0, 9, generator.integers(0, 5)).tolist()))


def mutant(kind: str, content: dict, whole: bytes, generator: np.random.Generator) -> bytes:
    if kind == "settings":
        copy = {
            **content,
            "cfg": {
                part: dict(values) if isinstance(values, dict) else values for part, values in content["cfg"].items()
            },
            "model": dict(content["model"]),
        }
        with_mutated_settings(copy, generator)
        return saved(copy)
    return (with_mutated_pickle if kind == "pickle" else mutated)(whole, generator)


def run(folder, variant: str, kind: str, call_of, num_mutants: int, planted: bool, num_layers: int = 1) -> None:
    mark = folder / "executed"
    content = hubert_checkpoint(variant, num_layers).content
    if planted:
        content["extra_state"]["call"] = call_of(os.system, f"touch {mark}")
    whole = saved(content, **({"_use_new_zipfile_serialization": False} if kind == "legacy" else {}))
    generator = np.random.default_rng(sum(f"{variant}{kind}".encode()))
    path, output = folder / "mutant.pt", folder / "encoder"
    converted = 0
    for _ in range(num_mutants):
        path.write_bytes(mutant(kind, content, whole, generator))
        try:
            convert_encoder(path, output)
        except ConversionError as error:
            assert str(error)
        else:
            if converted % 8 == 0:  # opening takes longer than converting
                _, info = HubertModel.from_pretrained(output, output_loading_info=True)
                assert not any(info.values()), info
            shutil.rmtree(output)
            converted += 1
        assert not mark.exists()
        assert [each.name for each in folder.iterdir()] == ["mutant.pt"]
    assert converted < num_mutants


@pytest.mark.parametrize(
    ("kind", "planted"),
    [("archive", False), ("pickle", False), ("legacy", False), ("settings", False), ("pickle", True)],
)
def test_mutants_are_converted_or_refused(tmp_path, call_of, kind, planted):
    run(tmp_path, "base", kind, call_of, 25, planted)


@pytest.mark.slow
@pytest.mark.parametrize("planted", [False, True], ids=["honest", "planted"])
@pytest.mark.parametrize("kind", ["archive", "pickle", "legacy", "settings"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_many_mutants(tmp_path, call_of, variant, kind, planted):
    run(tmp_path, variant, kind, call_of, rounds(40, 200), planted, num_layers=3)
