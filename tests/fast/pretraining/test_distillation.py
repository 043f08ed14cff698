"""Distillation on a made-up teacher: its features are running band energies of made-up sounds."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import HubertModel

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.pretraining.augmentation import unit_variance
from speechprompt_hf.pretraining.distillation import distill
from speechprompt_hf.pretraining.filterbank import student_config
from speechprompt_hf.pretraining.frames import Batch, TaughtShards
from speechprompt_hf.pretraining.processes import Processes
from speechprompt_hf.pretraining.quantization import nearest
from speechprompt_hf.pretraining.sharding import Sharding
from speechprompt_hf.pretraining.student import Student, distillation_loss, take_over, unit_logits
from tests.fixtures.taught_shards import made_up_bands, settings, write_made_up_shard


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    return write_made_up_shard(tmp_path_factory.mktemp("taught") / "shard", seed=0)


def test_targets_are_standardised_and_lie_under_their_samples(shard):
    data = TaughtShards([shard], num_clusters=8)
    batch = data.draw(np.random.default_rng(0), batch_size=40, num_frames=30)
    speech = batch.targets[batch.weights == 1]
    assert speech.mean().abs() < 0.3 and abs(float(speech.std()) - 1) < 0.4
    assert batch.weights.unique().tolist() == pytest.approx([0.1, 1.0])
    # The made-up teacher's formula on the 400 samples around the centre of each student frame (320 j + 360).
    heard = made_up_bands(batch.waves.numpy()[:, 160:].copy(), 30)
    said = batch.targets.numpy() * data.scale
    assert np.corrcoef(heard.ravel(), said.ravel())[0, 1] > 0.9
    late = np.corrcoef(heard[:, :-3].ravel(), said[:, 3:].ravel())[0, 1]
    assert late < 0.8


def test_a_warped_crop_takes_the_teacher_frames_along(shard):
    data = TaughtShards([shard], num_clusters=8)
    wave, places = data._crop(0, 0, 720 + 320 * 19, 20, 1.25, np.random.default_rng(1))
    assert len(wave) == 720 + 320 * 19
    assert places[-1] - places[0] == pytest.approx(19 * 1.25, abs=1)


def test_loss_is_zero_cosine_term_for_the_right_answer():
    targets = torch.randn(2, 5, 3)
    zeros = torch.zeros(2, 5, dtype=torch.long)
    batch = Batch(torch.zeros(2, 8), targets, zeros, torch.ones(2, 5), zeros)
    logits = torch.zeros(2, 5, 4)
    logits[..., 0] = 50
    loss, parts = distillation_loss(targets, logits, batch, cluster_weight=0.3)
    assert float(loss) == pytest.approx(0, abs=1e-5)
    assert float(parts["accuracy"]) == pytest.approx(1)
    worse, _ = distillation_loss(-targets, logits, batch, cluster_weight=0.3)
    assert float(worse) > 2


def test_gap_frames_count_a_tenth():
    targets = torch.zeros(1, 2, 3)
    weights = torch.tensor([[1.0, 0.1]])
    zeros = torch.zeros(1, 2, dtype=torch.long)
    batch = Batch(torch.zeros(1, 8), targets, zeros, weights, zeros)
    predicted = torch.tensor([[[0.0] * 3, [1.0] * 3]])
    _, parts = distillation_loss(predicted, torch.zeros(1, 2, 4), batch, cluster_weight=0.0)
    assert float(parts["l1"]) == pytest.approx(0.1 / 1.1)


def test_training_learns_and_exports_what_transformers_loads(shard, tmp_path):
    reports = []
    encoder = distill(
        [shard],
        tmp_path / "run",
        settings(cycles=((40, 3e-3),), validate_every=20),
        validation=[shard],
        show_progress=False,
        on_report=reports.append,
    )
    losses = [report["validation_loss"] for report in reports if "validation_loss" in report]
    assert losses[-1] < losses[0]
    loaded = HubertModel.from_pretrained(tmp_path / "run" / "encoder", dtype=torch.float32)
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value.half().float(), atol=0, rtol=0)


def test_resumed_run_equals_an_uninterrupted_one(shard, tmp_path):
    whole = distill([shard], tmp_path / "whole", settings(), show_progress=False)

    class StoppedError(Exception):
        pass

    def stop_at_six(report):
        if report["step"] == 6:
            raise StoppedError

    with pytest.raises(StoppedError):
        distill([shard], tmp_path / "cut", settings(), validation=[shard], show_progress=False, on_report=stop_at_six)
    resumed = distill([shard], tmp_path / "cut", settings(), show_progress=False)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, atol=0, rtol=0)


def test_a_checkpoint_of_other_settings_is_refused(shard, tmp_path):
    distill([shard], tmp_path, settings(), show_progress=False)
    with pytest.raises(ConfigurationError, match="other settings"):
        distill([shard], tmp_path, settings(seed=1), show_progress=False)


def test_a_checkpoint_of_other_shards_is_refused(shard, tmp_path):
    distill([shard], tmp_path / "run", settings(), show_progress=False)
    other = write_made_up_shard(tmp_path / "other", seed=9)
    with pytest.raises(ConfigurationError, match="other data: shard 0"):
        distill([other], tmp_path / "run", settings(), show_progress=False)


def test_learning_rate_warms_up_and_falls_in_each_cycle():
    config = settings(cycles=((100, 1.0), (50, 0.5)), warm_up_steps=10)
    rates = [config.learning_rate(step)[0] for step in range(150)]
    assert rates[9] == pytest.approx(1.0) and max(rates) == pytest.approx(1.0)
    assert rates[99] < 0.03 and rates[109] == pytest.approx(0.5) and rates[149] < 0.02
    assert [config.learning_rate(step)[1] for step in (99, 100)] == [0, 1]


def test_an_unfinished_shard_is_refused(shard, tmp_path):
    folder = write_made_up_shard(tmp_path / "other", seed=1)
    features = np.load(folder / "features.npy")
    features[-1] = 0
    np.save(folder / "features.npy", features)
    with pytest.raises(ConfigurationError, match="not taught to its end"):
        TaughtShards([folder])


def test_unit_logits_rank_prototypes_by_distance():
    torch.manual_seed(0)
    hidden, prototypes = torch.randn(3, 7, 5), torch.randn(11, 5)
    best = unit_logits(hidden, prototypes, torch.tensor(0.7)).argmax(-1)
    torch.testing.assert_close(best.flatten(), nearest(hidden.flatten(0, 1), prototypes)[0])
    scores = unit_logits(hidden, prototypes, torch.tensor(1.0)) - 0.5 * hidden.square().sum(-1, keepdim=True)
    torch.testing.assert_close(scores, -0.5 * torch.cdist(hidden, prototypes).square(), atol=1e-4, rtol=1e-4)


def test_prototypes_are_trained_on_an_earlier_run_and_become_the_quantizer(shard, tmp_path):
    distill([shard], tmp_path / "first", settings(cycles=((20, 3e-3),)), show_progress=False)
    reports = []
    encoder = distill(
        [shard],
        tmp_path / "second",
        settings(cycles=((40, 2e-3),), num_units=8, validate_every=10),
        validation=[shard],
        start_from=tmp_path / "first",
        show_progress=False,
        on_report=reports.append,
    )
    scores = [report["validation_unit_accuracy"] for report in reports if "validation_unit_accuracy" in report]
    assert scores[0] > 2 / 8 and scores[-1] > scores[0]
    data = TaughtShards([shard], num_units=8)
    batch = data.draw(np.random.default_rng(0), batch_size=20, num_frames=40)
    centroids = load_file(tmp_path / "second" / "quantizer.safetensors")["centroids"]
    assert centroids.dtype == torch.float32
    with torch.no_grad():
        hidden = encoder(unit_variance(batch.waves)).last_hidden_state
    said = nearest(hidden.flatten(0, 1), centroids)[0]
    assert (said == batch.units.flatten()).float().mean() == pytest.approx(scores[-1], abs=0.15)


def test_a_deeper_student_takes_over_an_encoder_and_starts_its_own_layers_anew(shard, tmp_path):
    distill([shard], tmp_path / "first", settings(cycles=((10, 3e-3),)), show_progress=False)
    shallow = HubertModel.from_pretrained(tmp_path / "first" / "encoder", dtype=torch.float32)
    depth = shallow.config.num_hidden_layers
    student = Student(student_config(**{**settings().student, "num_hidden_layers": depth + 1}), 6, 8)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    take_over(student, tmp_path / "first" / "encoder")
    taken = student.encoder.state_dict()
    for name, value in shallow.state_dict().items():
        assert torch.equal(taken[name], value), name
    new = [name for name in before if f".encoder.layers.{depth}." in name or name.startswith("to_")]
    assert new and all(torch.equal(student.state_dict()[name], before[name]) for name in new)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"num_hidden_layers": 0}, "does not exist"), ({"hidden_size": 64}, r"has shape .*64")],
)
def test_a_student_that_does_not_hold_the_earlier_weights_is_refused(shard, tmp_path, change, message):
    distill([shard], tmp_path / "first", settings(cycles=((2, 3e-3),)), show_progress=False)
    student = Student(student_config(**{**settings().student, **change}), 6, 8)
    with pytest.raises(ConfigurationError, match=message):
        take_over(student, tmp_path / "first" / "encoder")


def test_shares_of_a_step_sum_up_to_its_loss():
    torch.manual_seed(0)
    batch = Batch(
        torch.zeros(5, 8), torch.randn(5, 4, 3), torch.randint(6, (5, 4)), torch.rand(5, 4), torch.randint(2, (5, 4))
    )
    outputs = (torch.randn(5, 4, 3), torch.randn(5, 4, 6), torch.randn(5, 4, 2))

    def loss(rows, total_weight=None):
        predicted, logits, units = (output[rows] for output in outputs)
        options = {"cluster_weight": 0.3, "unit_scores": units, "unit_weight": 0.7, "total_weight": total_weight}
        return distillation_loss(predicted, logits, batch.rows(rows), **options)

    whole, parts = loss(slice(None))
    shares = [loss(slice(rank, None, 3), batch.weights.sum()) for rank in range(3)]
    torch.testing.assert_close(sum(share for share, _ in shares), whole)
    for name, value in parts.items():
        torch.testing.assert_close(sum(share[name] for _, share in shares), value)


def test_sharding_is_refused(shard, tmp_path):
    processes = Processes(0, 2, torch.device("cpu"), Sharding())
    with pytest.raises(ConfigurationError, match="distillation does not shard"):
        distill([shard], tmp_path, settings(), processes=processes)
