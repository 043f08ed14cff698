"""The base, the adapters' folders, each adapter alone, and all in one model."""

import pytest

from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from tests.fixtures.many_adapters import KINDS, make, open_all
from tests.fixtures.tiny_models import (
    tiny_lm,
)


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny_lm(seed=5, fingerprint={"digest": "units"}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(base_folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    for seed, (name, (num_classes, options)) in enumerate(KINDS.items()):
        make(str(base_folder), num_classes, seed=seed, **options).save_pretrained(root / name)
    return root


@pytest.fixture(scope="module")
def alone(folders):
    """Every adapter opened by itself, with a base of its own."""
    return {name: SpeechPromptForAudioClassification.from_pretrained(folders / name) for name in KINDS}


@pytest.fixture(scope="module")
def many(folders):
    return open_all(folders)
