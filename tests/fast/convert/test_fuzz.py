"""Mutated checkpoints: a folder, or a typed error and no trace; never anything executed."""

import os
import shutil
import warnings

import numpy as np
import pytest
import torch

from speechprompt_hf.convert.gslm import convert_gslm
from speechprompt_hf.core.errors import SpeechPromptError
from speechprompt_hf.modeling import GSLMForCausalLM
from tests.fixtures.effort import rounds
from tests.fixtures.foreign_files import CONVERTERS, ForeignFile, foreign_file
from tests.fixtures.mutations import mutated, saved, with_mutated_pickle

NUM_MUTANTS = 100
KINDS = ("archive", "pickle", "legacy", "weights")
NUM_JOINT = rounds(300, 1_000)
"""Mutants over all converters."""


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


def with_mutated_weights(file: ForeignFile, generator: np.random.Generator) -> bytes:
    """Whole files, in which tensors are missing, renamed, of other sizes or types, or not finite."""
    assert file.tensors is not None
    kept = dict(file.tensors)
    names = sorted(key for key, value in kept.items() if isinstance(value, torch.Tensor))
    for key in generator.choice(names, generator.integers(1, 3), replace=False):
        tensor = file.tensors.pop(key)
        shape = tuple(generator.integers(0, 6, generator.integers(0, 4)).tolist())
        changed = {
            1: lambda tensor=tensor, shape=shape: torch.zeros(shape),
            2: lambda tensor=tensor: tensor.double() * 1e200,
            3: lambda tensor=tensor: torch.full_like(tensor, torch.nan),
            4: lambda tensor=tensor: tensor.long(),
            5: lambda tensor=tensor: torch.cat([tensor, tensor]) if tensor.dim() else tensor,
            6: lambda tensor=tensor: tensor.T.contiguous() if tensor.dim() == 2 else tensor,
        }
        choice = int(generator.integers(0, 8))
        if choice:
            name = key if choice in changed else str(key)[: int(generator.integers(1, len(key)))]
            file.tensors[name] = changed.get(choice, lambda tensor=tensor: tensor)()
    content = file.saved()
    file.tensors.clear()
    file.tensors.update(kept)
    return content


def mutant(file: ForeignFile, kind: str, generator: np.random.Generator) -> bytes:
    match kind:
        case "weights":
            return with_mutated_weights(file, generator)
        case "pickle":
            return with_mutated_pickle(file.saved(), generator)
        case "legacy":
            return mutated(file.saved(_use_new_zipfile_serialization=False), generator)
        case "compressed":
            return mutated(file.saved(compress=3), generator)
    return mutated(file.saved(), generator)


def check_mutants(converter: str, kind: str, num_mutants: int, folder, planted=None) -> int:
    """Each mutant becomes a folder that opens, or a typed error and no trace; returns how many were converted.

    Without `planted` the files are honest; with it they hold a call that creates the file it names.
    """
    work, given = folder / "work", folder / "given"
    work.mkdir()
    given.mkdir()
    file = foreign_file(converter, given)
    mark = folder / "executed"
    if planted is not None:
        call = planted(os.system, f"touch {mark}")
        if file.tensors is None:
            file.content.call = call
        else:
            file.content["call"] = call
    generator = np.random.default_rng(sum(f"{converter}{kind}{planted is not None}".encode()))
    path, output = work / "mutant.pt", work / "made"
    converted = 0
    for _ in range(num_mutants):
        path.write_bytes(mutant(file, kind, generator))
        try:
            file.convert(path, output)
        except SpeechPromptError as error:
            assert str(error)
        else:
            if converted % 8 == 0:  # opening takes longer than converting
                file.opened(output)
            shutil.rmtree(output)
            converted += 1
        assert not mark.exists()
        assert [each.name for each in work.iterdir()] == ["mutant.pt"]
    return converted


def joint_cases() -> list[tuple[str, str, bool]]:
    return [
        (converter, kind, planted)
        for converter in CONVERTERS
        for kind in (("raw", "compressed") if converter == "quantizer" else KINDS)
        for planted in (False, True)
    ]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_prompts(kind, tmp_path):
    assert check_mutants("prompt", kind, 25, tmp_path) < 25


@pytest.mark.slow
@pytest.mark.parametrize(("converter", "kind", "planted"), joint_cases())
def test_many_mutants_of_all_converters(converter, kind, planted, tmp_path, call_of):
    number = -(-NUM_JOINT // len(joint_cases()))
    with warnings.catch_warnings():
        # Numbers that overflow when they are read from damaged files.
        warnings.simplefilter("ignore", RuntimeWarning)
        converted = check_mutants(converter, kind, number, tmp_path, call_of if planted else None)
    # Where a call is planted and the pickle is as it was, nothing may be converted.
    assert converted == 0 if planted and kind == "weights" else converted < number


@pytest.mark.parametrize("converter", CONVERTERS)
def test_the_files_themselves_are_converted(converter, tmp_path):
    """Else no mutant would mean much."""
    file = foreign_file(converter, tmp_path)
    (tmp_path / "whole.pt").write_bytes(file.saved())
    file.convert(tmp_path / "whole.pt", tmp_path / "made")
    file.opened(tmp_path / "made")
