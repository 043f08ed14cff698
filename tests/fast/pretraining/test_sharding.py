import copy

import pytest
import torch
from torch.distributed.tensor import DTensor

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.pretraining.checkpoints import adamw
from speechprompt_hf.pretraining.gslm_pretraining import NextUnit, PretrainingConfig
from speechprompt_hf.pretraining.pretraining_run import mean_loss
from speechprompt_hf.pretraining.processes import Processes
from speechprompt_hf.pretraining.rows import make_rows
from speechprompt_hf.pretraining.sharding import Sharding, WholeState
from tests.fixtures.tiny_models import tiny_lm

VOCABULARY = UnitVocabulary.from_num_units(10)
CPU = torch.device("cpu")
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.fixture
def one_process():
    """A group of this process alone: `tests/slow` has two."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def model_and_optimizer(seed=0):
    model = tiny_lm(seed=seed, vocab_size=len(VOCABULARY))
    return model, adamw(model, 1e-2, 0.1)


def update(model, optimizer):
    ids = torch.tensor([VOCABULARY.input_ids([3, 4, 5, 6])])
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Sharding()),
        ({"FSDP_RESHARD_AFTER_FORWARD": "false"}, Sharding(reshard_after_forward=False)),
        # What accelerate launch sets for a configuration file that says nothing of them.
        ({"FSDP_OFFLOAD_PARAMS": "false", "FSDP_ACTIVATION_CHECKPOINTING": "False", "FSDP_VERSION": "2"}, Sharding()),
        ({"ACCELERATE_USE_FSDP": "false", "FSDP_VERSION": "1"}, None),
        ({"ACCELERATE_USE_FSDP": ""}, None),
    ],
)
def test_variables_of_accelerate_are_read(changes, expected):
    assert Sharding.from_environment({**FSDP, **changes}) == expected


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP_VERSION is '1'"),
        ({**FSDP, "FSDP_VERSION": "1"}, "FSDP_VERSION is '1'"),
        ({**FSDP, "FSDP_OFFLOAD_PARAMS": "true"}, "FSDP_OFFLOAD_PARAMS is 'true'"),
        ({**FSDP, "FSDP_ACTIVATION_CHECKPOINTING": "true"}, "FSDP_ACTIVATION_CHECKPOINTING is 'true'"),
        ({**FSDP, "FSDP_RESHARD_AFTER_FORWARD": "FULL_SHARD"}, "FSDP_RESHARD_AFTER_FORWARD is 'FULL_SHARD'"),
    ],
)
def test_what_is_not_known_is_refused_before_any_process_joins(variables, message):
    with pytest.raises(ConfigurationError, match=message):
        Processes.join("cpu", {**variables, "WORLD_SIZE": "2", "RANK": "0"})
    assert not torch.distributed.is_initialized()


def test_one_process_alone_does_not_shard():
    assert Processes.join("cpu", {**FSDP, "WORLD_SIZE": "1", "RANK": "0"}) == Processes(0, 1, CPU)


@pytest.mark.parametrize("reshard_after_forward", [True, False])
def test_a_sharded_model_learns_what_a_whole_one_learns(one_process, reshard_after_forward):
    whole, whole_optimizer = model_and_optimizer()
    model = copy.deepcopy(whole)
    Sharding(reshard_after_forward).apply(model, CPU)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert trained and all(isinstance(value, DTensor) for value in trained.values())
    assert not any(isinstance(value, DTensor) for value in model.parameters() if not value.requires_grad)
    optimizer = adamw(model, 1e-2, 0.1)
    for _ in range(3):
        update(whole, whole_optimizer)
        update(model, optimizer)
    for part, own in ((WholeState(model), whole), (WholeState(optimizer), whole_optimizer)):
        part.collect(keep=True)
        torch.testing.assert_close(part.state_dict(), own.state_dict())


def test_a_whole_state_goes_into_a_sharded_model_and_back(one_process):
    whole, whole_optimizer = model_and_optimizer(seed=1)
    update(whole, whole_optimizer)
    model, _ = model_and_optimizer(seed=2)
    Sharding().apply(model, CPU)
    optimizer = adamw(model, 1e-2, 0.1)
    for part, own in ((WholeState(model), whole), (WholeState(optimizer), whole_optimizer)):
        part.load_state_dict(copy.deepcopy(own.state_dict()))  # as from a file: optimizers keep what they get
        part.collect(keep=True)
        assert not any(isinstance(value, DTensor) for value in part.state_dict().values())
        torch.testing.assert_close(part.state_dict(), own.state_dict(), rtol=0, atol=0)
        part.collect(keep=False)  # only the process that writes needs it
        assert part.state_dict().keys() == own.state_dict().keys()
    update(whole, whole_optimizer)
    update(model, optimizer)
    state = WholeState(model)
    state.collect(keep=True)
    torch.testing.assert_close(state.state_dict(), whole.state_dict())


def test_a_state_of_another_model_is_refused(one_process):
    model, _ = model_and_optimizer()
    Sharding().apply(model, CPU)
    state = {**WholeState(tiny_lm(seed=0, vocab_size=len(VOCABULARY))).state_dict(), "other": torch.zeros(1)}
    with pytest.raises(RuntimeError, match="Unexpected key"):
        WholeState(model).load_state_dict(state)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_processes_share_the_lines_of_the_validation(size, monkeypatch):
    model = tiny_lm(seed=1, vocab_size=len(VOCABULARY))
    rows = make_rows([[1, 2, 3], [4], [5, 6], [7, 8, 9, 1], [2] * 12, [3, 1]], VOCABULARY, max_tokens=20)
    objective = NextUnit(PretrainingConfig(tokens_per_step=40), len(VOCABULARY))
    # Instead of an exchange each says its part, and they are added here.
    monkeypatch.setattr(Processes, "sum", lambda self, value: value)
    parts = [mean_loss(model, objective, rows, Processes(rank, size, CPU)) for rank in range(size)]
    assert sum(parts) == pytest.approx(mean_loss(model, objective, rows), rel=1e-5)
    assert size == 1 or max(parts) < 0.95 * sum(parts)
