"""Mutated checkpoints: a folder, or a typed error and no trace; never anything executed."""

import io
import os
import shutil
import zipfile

import numpy as np
import pytest
import torch

from speechprompt_hf.convert.gslm import convert_gslm
from speechprompt_hf.core.errors import SpeechPromptError
from speechprompt_hf.modeling import GSLMForCausalLM

NUM_MUTANTS = 100


def mutated(content: bytes, generator: np.random.Generator) -> bytes:
    """A few bytes replaced, left out, doubled or swapped, or the end cut off."""
    changed = bytearray(content)
    for _ in range(generator.integers(1, 5)):
        start = int(generator.integers(0, len(changed)))
        length = int(generator.integers(1, 30))
        match generator.integers(0, 6):
            case 0 | 1:
                changed[start] = generator.integers(0, 256)
            case 2:
                del changed[start : start + length]
            case 3:
                changed[start:start] = changed[start : start + length]
            case 4:
                other = int(generator.integers(0, len(changed)))
                changed[start : start + length] = changed[other : other + length]
            case 5:
                changed[start] ^= 1 << int(generator.integers(0, 8))
    if generator.random() < 0.05:
        del changed[int(generator.integers(0, len(changed))) :]
    return bytes(changed)


def with_mutated_pickle(content: bytes, generator: np.random.Generator) -> bytes:
    """The archive with a changed data.pkl and checksums that are right, so that the pickle is really read."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            entry = source.read(name)
            target.writestr(name, mutated(entry, generator) if name.endswith("data.pkl") else entry)
    return buffer.getvalue()


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("planted", [False, True], ids=["honest", "planted"])
@pytest.mark.parametrize("kind", ["archive", "pickle", "legacy"])
def test_mutants_are_converted_or_refused(checkpoint, tmp_path, call_of, kind, planted):
    mark = tmp_path / "executed"
    if planted:
        checkpoint.content["extra_state"]["call"] = call_of(os.system, f"touch {mark}")
    whole = saved(checkpoint.content, **({"_use_new_zipfile_serialization": False} if kind == "legacy" else {}))
    dictionary = checkpoint.dictionary()
    generator = np.random.default_rng(sum(kind.encode()))
    path, output = tmp_path / "mutant.pt", tmp_path / "lm"
    converted = 0
    for _ in range(NUM_MUTANTS):
        path.write_bytes((with_mutated_pickle if kind == "pickle" else mutated)(whole, generator))
        try:
            convert_gslm(path, output, dictionary)
        except SpeechPromptError as error:
            assert str(error)
        else:
            GSLMForCausalLM.from_pretrained(output)
            shutil.rmtree(output)
            converted += 1
        assert not mark.exists()
        assert sorted(each.name for each in tmp_path.iterdir()) == ["dict.txt", "mutant.pt"]
    # Of the honest ones, those whose mutation hit what is not read; of the others only those that lost the call.
    assert converted < NUM_MUTANTS
