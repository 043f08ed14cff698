"""A tiny base over the made-up units, and small suites on them."""

from dataclasses import replace

import pytest

from speechprompt_hf.bench.datasets import DatasetSpec, Protocol, Synthetic
from speechprompt_hf.bench.methods import READY_METHODS, Method
from speechprompt_hf.bench.suite import Suite
from tests.fixtures.unit_tasks import save_tiny_base


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    return str(save_tiny_base(tmp_path_factory.mktemp("base")))


@pytest.fixture
def words():
    """Two folds of 24 made-up rows each, ten speakers."""
    return DatasetSpec("words", synthetic=Synthetic(rows=48), protocol=Protocol("grouped", folds=2))


@pytest.fixture
def quick_suite(words):
    """TF-IDF and a prompt that hardly trains, on two data sets."""
    pair = DatasetSpec("pair", synthetic=Synthetic(rows=40, labels=2, seed=1), metric="equal_error_rate")
    prompt = replace(READY_METHODS["deep-learnable"], name="prompt")
    methods = (Method("majority", "majority"), Method("tfidf", "tfidf"), prompt)
    settings = {"num_epochs": 1, "num_virtual_tokens": 2}
    return Suite("quick", (words, pair), methods, seeds=(0, 1), baseline="tfidf", settings=settings)
