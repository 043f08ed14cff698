"""A tiny base over the made-up units, and small suites on them."""

from dataclasses import replace

import pytest

from speechprompt_hf.bench.datasets import DatasetSpec, Protocol, Synthetic
from speechprompt_hf.bench.in_context.declaration import InContextTask
from speechprompt_hf.bench.in_context.suite import InContextSuite
from speechprompt_hf.bench.methods import READY_METHODS, Method
from speechprompt_hf.bench.suite import Suite
from tests.fixtures.bench_cells import NEAREST, PROMPT
from tests.fixtures.tiny_models import tiny_lm
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


@pytest.fixture(scope="session")
def long_base(tmp_path_factory):
    """A tiny base that reads whole episodes."""
    folder = tmp_path_factory.mktemp("long") / "tiny"
    tiny_lm(std=0.15, max_position_embeddings=600).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def told_suite():
    """Nearest example and a prompt: words held out, and words of another data set."""
    words = DatasetSpec("words", synthetic=Synthetic(rows=120, labels=5))
    other = DatasetSpec("other", synthetic=Synthetic(rows=60, labels=2, seed=1, speakers=4))
    return InContextSuite(
        "told",
        (words, other),
        (
            InContextTask("within", ("words",), ("words",), test_classes=2),
            InContextTask("across", ("words",), ("other",)),
        ),
        (NEAREST, PROMPT),
        ways=(2,),
        shots=(1, 2),
        seeds=(0, 1),
        episodes=20,
        check_episodes=10,
        baseline="nearest",
    )
