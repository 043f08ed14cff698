"""The base of the prompts, and a file of each kind that upstream writes."""

import pytest

from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.modeling.base_loading import load_base
from tests.fixtures.official_prompts import with_plain_norms, write_prompt
from tests.fixtures.tiny_models import (
    tiny_lm,
)
from tests.fixtures.toy_prompts import LABELS, UNITS, tensors, units_of


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    with_plain_norms(tiny_lm(seed=5)).save_pretrained(folder)
    (folder / "dict.txt").write_text(UnitVocabulary(tuple(map(str, UNITS))).to_dict_txt())
    return folder


@pytest.fixture(scope="module")
def weights(base):
    return load_base(base).state_dict()


@pytest.fixture(params=[(version, kind, linear) for version in (1, 2) for kind in ("deep", "input")
                        for linear in ((False, True) if version == 2 else (False,))],
                ids=lambda value: f"v{value[0]}-{value[1]}-{'linear' if value[2] else 'fixed'}")  # fmt: skip
def official_file(request, tmp_path):
    version, kind, linear = request.param
    state = tensors(kind, linear, version)
    path = write_prompt(tmp_path / "checkpoint_best.pt", state, version=version)
    return path, state, {"labels": LABELS} if linear else {"verbalizer": units_of()}
