"""In-context suites from their declaration to the report, and what warm-up can and cannot learn."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from speechprompt_hf.bench.bases import open_base
from speechprompt_hf.bench.datasets import DatasetSpec
from speechprompt_hf.bench.in_context import parts, runner
from speechprompt_hf.bench.in_context.declaration import InContextMethod, InContextTask, WarmUpSettings
from speechprompt_hf.bench.in_context.episodes import Pool, draw_episodes, shuffle_told_labels
from speechprompt_hf.bench.in_context.learner import Learner, label_token_ids, make_learner, surprise_when_repeated
from speechprompt_hf.bench.in_context.report import in_context_summary, write_in_context_results
from speechprompt_hf.bench.in_context.runner import run_in_context
from speechprompt_hf.bench.in_context.sequences import batch_episodes
from speechprompt_hf.bench.in_context.summary import summarize_in_context
from speechprompt_hf.bench.in_context.warm_up import warm_up
from speechprompt_hf.bench.loading import open_dataset
from speechprompt_hf.bench.store import ResultStore
from speechprompt_hf.core.errors import ConfigurationError, DatasetError
from speechprompt_hf.core.files import write_json
from speechprompt_hf.core.vocabulary import UnitVocabulary
from tests.fixtures.bench_cells import NEAREST, PROMPT, stop_and_go_on
from tests.fixtures.tiny_models import VOCAB_SIZE, tiny_lm
from tests.fixtures.unit_mbarts import tiny_mbart


@pytest.fixture(scope="module")
def suite(told_suite):
    return told_suite


def numbers(run):
    """What must not differ between runs; times do."""
    return [(part["key"], part["measured"], part["loss"], part["surprise"]) for part in run.parts]


@pytest.fixture(scope="module")
def whole(suite, long_base, tmp_path_factory):
    """The suite, run once."""
    return run_in_context(suite, work=tmp_path_factory.mktemp("whole"), bases=[long_base])


def test_a_stopped_run_goes_on_and_gives_the_same(suite, whole, long_base, tmp_path, monkeypatch):
    assert whole.num_computed == len(whole.parts) == 2 * 2 * 2 and not whole.failed
    again = stop_and_go_on(
        monkeypatch,
        runner,
        "compute_part",
        lambda: run_in_context(suite, work=tmp_path / "stopped", bases=[long_base]),
    )
    assert again.num_computed == whole.num_computed - 3
    assert numbers(again) == numbers(whole)
    # All methods are asked the same.
    nearest, prompt = (
        [part for part in whole.parts if part["task"] == "within" and part["method"] == name]
        for name in ("nearest", "prompt")
    )
    for left_part, right_part in zip(nearest, prompt, strict=True):
        for one, other in zip(left_part["measured"], right_part["measured"], strict=True):
            assert one.get("query") == other.get("query") and one["dataset"] == other["dataset"]
    assert prompt[0]["trained_parameters"] > 0 and nearest[0]["trained_parameters"] == 0
    assert prompt[0]["rows"]["warm_up"]["words"]["classes"] != prompt[0]["rows"]["test"]["words"]["classes"]


def test_results_say_chance_control_and_difference(whole, tmp_path):
    run = whole
    lines = summarize_in_context(run.suite, run.parts)
    assert [(line.task, line.dataset, line.shots, line.method) for line in lines] == [
        (task, dataset, shots, method)
        for task, dataset in (("within", "words"), ("across", "other"))
        for shots in (1, 2)
        for method in ("nearest", "prompt")
    ]
    for line in lines:
        assert line.chance == 0.5 and line.num_episodes == 40 and line.num_seeds == 2
        assert line.interval[0] <= line.accuracy <= line.interval[1]
        assert line.over == "recordings"
        assert line.gain_interval[0] <= line.gain <= line.gain_interval[1]
    nearest, prompt = lines[:2]
    assert nearest.difference is None and nearest.accuracy > 0.7 and nearest.gain_interval[0] > 0
    measured = [
        each
        for part in run.parts
        if (part["task"], part["method"]) == ("within", "nearest")
        for each in part["measured"]
        if (each["side"], each["shots"]) == ("test", 1)
    ]
    assert nearest.gain == pytest.approx(
        np.mean([each["correct"][:10] for each in measured]) - np.mean([each["shuffled"] for each in measured])
    )
    assert prompt.difference == pytest.approx(prompt.accuracy - nearest.accuracy)
    assert prompt.difference_interval[0] <= prompt.difference <= prompt.difference_interval[1]
    files = write_in_context_results(run, tmp_path / "out", "speechprompt bench told")
    assert {path.name for path in files} == {
        "lines.csv",
        "table.md",
        "report.html",
        "summary.json",
        "within.png",
        "across.png",
    }
    text = (tmp_path / "out" / "told" / "table.md").read_text()
    assert "### words, 2-way, 1-shot: chance 0.50" in text and "speechprompt bench told" in text
    assert "The frozen base, surprise in nats a unit" in text and str(tmp_path) not in text
    page = (tmp_path / "out" / "told" / "report.html").read_text()
    assert page.count("data:image/png") == 2 and "<table>" in page
    rows = (tmp_path / "out" / "told" / "lines.csv").read_text().splitlines()
    assert len(rows) == 1 + len(lines) and len({row.count(",") for row in rows}) == 1
    summary = in_context_summary(run, "c")
    assert len(summary["divisions"]) == 4 and summary["failed"] == []


def test_intervals_draw_speakers_where_there_are_enough(suite, long_base, tmp_path):
    suite = replace(suite, tasks=(InContextTask("across", ("other",), ("words",)),), methods=(NEAREST,), baseline=None)
    run = run_in_context(suite, work=tmp_path / "w", bases=[long_base])
    (line, *_) = summarize_in_context(run.suite, run.parts)
    assert line.over == "speakers" and line.baseline is None


def test_what_a_part_depends_on(suite, long_base, tmp_path):
    base = open_base("default", long_base)
    opened = {spec.name: open_dataset(spec, None, base, cache_dir=tmp_path) for spec in suite.datasets}

    def key(suite=suite, method=PROMPT, base=base, task=suite.tasks[0], seed=0):
        material = parts.Material.of(task, opened, suite.max_units)
        return parts.make_part(suite, material, method, seed, base).key

    first = key()
    assert key(method=replace(PROMPT, name="other")) == key(task=replace(suite.tasks[0], name="other")) == first
    # A default that is written down.
    assert key(method=replace(PROMPT, settings={**PROMPT.settings, "ask": "repeats"})) == first
    other = replace(base, weights={**base.weights, "weights": "other"})
    turned = replace(base, vocabulary=UnitVocabulary(tuple(map(str, reversed(range(26))))))
    for changed in (
        {"method": replace(PROMPT, settings={**PROMPT.settings, "updates": 3})},
        {"method": InContextMethod("prompt", "finetune", PROMPT.settings)},
        {"suite": replace(suite, episodes=21)},
        {"suite": replace(suite, check_episodes=11)},
        {"suite": replace(suite, ways=(2, 3))},
        {"suite": replace(suite, max_units=5)},
        {"task": replace(suite.tasks[0], test_classes=3)},
        {"task": replace(suite.tasks[0], test_speakers=0.5)},
        {"task": suite.tasks[1]},
        {"seed": 1},
        {"base": other},
        {"base": turned},
    ):
        assert key(**changed) != first, changed
    assert key(method=NEAREST, base=other) == key(method=NEAREST)


def test_a_part_that_fails_costs_no_other(suite, long_base, tmp_path):
    suite = replace(suite, ways=(2, 3))
    run = run_in_context(suite, work=tmp_path / "w", bases=[long_base], num_seeds=1)
    assert not run.parts and {failure.cell.partition("/")[0] for failure in run.failed} == {"within", "across"}
    assert "2 of 2 classes have 1 row(s) by others, and 3 are needed" in run.failed[0].error
    files = write_in_context_results(run, tmp_path / "o", "c")
    assert "## Failed" in files[1].read_text()


def test_what_is_missing_is_skipped(suite, long_base, tmp_path):
    gone = DatasetSpec("gone", folder="gone", base="far")
    units = replace(suite.datasets[0], name="units", base="far")
    suite = replace(
        suite,
        datasets=(*suite.datasets, gone, units),
        tasks=(InContextTask("lost", ("gone",), ("units",)), InContextTask("bare", ("units",), ("units",), "", 2)),
    )
    run = run_in_context(suite, work=tmp_path / "w", data_root=tmp_path, num_seeds=1)
    assert [(skip.dataset, skip.method) for skip in run.skipped] == [("lost", None), ("bare", "prompt")]
    assert "there is no gone in the data root" in run.skipped[0].reason
    assert "give far=FOLDER" in run.skipped[1].reason
    assert [(part["task"], part["method"]) for part in run.parts] == [("bare", "nearest")]
    with pytest.raises(DatasetError, match="not one task of the suite told has all its data sets: lost"):
        run_in_context(suite, work=tmp_path / "w", only=["lost"])
    with pytest.raises(ConfigurationError, match="the suite told knows no base 'near'"):
        run_in_context(suite, work=tmp_path / "w", bases=["near=x"])


def test_a_damaged_part_is_named(suite, long_base, tmp_path):
    run = run_in_context(suite, work=tmp_path, bases=[long_base], only=["within/nearest"], num_seeds=1)
    (path,) = (tmp_path / "in-context" / "within").glob("*.json")
    write_json(path, {"key": "another"})
    with pytest.raises(ConfigurationError, match="is not the part within/nearest, seed 0"):
        run_in_context(suite, work=tmp_path, bases=[long_base], only=["within/nearest"], num_seeds=1)
    assert run.num_computed == 1


def test_a_held_part_is_waited_for(suite, long_base, tmp_path):
    said = []
    store = ResultStore(tmp_path)

    def release(text):
        said.append(text)
        if "another process" in text:
            lock.release()

    opened = open_dataset(suite.datasets[0], None, None, cache_dir=tmp_path)
    material = parts.Material.of(suite.tasks[0], {"words": opened}, None)
    part = parts.make_part(suite, material, NEAREST, 0, open_base("default", long_base))
    lock = store.lock(part.key[:32])
    lock.acquire()
    run = run_in_context(
        suite, work=tmp_path, bases=[long_base], only=["within/nearest"], num_seeds=1, on_note=release
    )
    assert run.num_computed == 1 and "another process is at it" in said[0]


# What a base learns of it.


@pytest.fixture
def learner(long_base):
    return make_learner(open_base("default", long_base), PROMPT, WarmUpSettings(num_virtual_tokens=2), seed=0)


@pytest.fixture
def told():
    """Three words of one unit each, by four speakers, and their tokens."""
    labels = [f"w{row % 3}" for row in range(24)]
    return Pool.of(labels, [f"s{row // 6}" for row in range(24)]), [[4 + row % 3, 7 + row % 3] for row in range(24)]


def test_scores_are_the_models_own_logits(learner, told):
    pool, tokens = told
    episodes = draw_episodes(pool, ways=3, shots=2, number=4, label_tokens=range(4, 30), seed=0, balanced=False)
    batch = batch_episodes(episodes, tokens, max_tokens=600, ask_repeats=True)
    with torch.no_grad():
        learner.prompt.eval()
        scores = learner.scores(batch, last_only=False)
        states = learner.prompt.states(learner.lm)
        for row, column, tokens_in_play, score in zip(
            batch.rows, batch.columns, batch.label_tokens, scores, strict=True
        ):
            # What comes after a question cannot matter.
            logits = learner.lm(input_ids=batch.input_ids[row : row + 1, : column + 1], prompt=states).logits[0, -1]
            assert torch.allclose(score, logits[tokens_in_play], atol=1e-4)
        asked = batch_episodes(episodes, tokens, max_tokens=600)
        assert torch.allclose(learner.scores(asked, last_only=True), learner.scores(asked, last_only=False), atol=1e-4)


def test_answers_do_not_depend_on_batches(learner, told):
    pool, tokens = told
    episodes = draw_episodes(pool, ways=2, shots=2, number=23, label_tokens=range(4, 30), seed=0)
    assert learner.answer(episodes, tokens, batch_size=5) == learner.answer(episodes, tokens, batch_size=23)


@pytest.mark.parametrize("kind", ["prompt", "finetune"])
@pytest.mark.parametrize("ask", ["query", "repeats"])
def test_warm_up_changes_what_it_trains_and_nothing_else(long_base, told, kind, ask):
    pool, tokens = told
    settings = WarmUpSettings(num_virtual_tokens=2, updates=3, batch_size=2, ask=ask, learning_rate=0.01)
    learner = make_learner(open_base("default", long_base), InContextMethod("m", kind), settings, seed=0)
    before = {name: tensor.clone() for name, tensor in learner.lm.state_dict().items()}
    trained = [tensor.detach().clone() for tensor in learner.trained]
    losses = warm_up(
        learner, {"words": pool}, tokens, settings, ways=(2,), shots=(2,), label_tokens=range(4, 30), seed=0
    )
    assert len(losses) == 3 and np.isfinite(losses).all()
    assert any(not torch.equal(new, old) for new, old in zip(learner.trained, trained, strict=True))
    same = {name for name, tensor in learner.lm.state_dict().items() if torch.equal(tensor, before[name])}
    if kind == "prompt":
        assert same == set(before)
    else:
        assert same == {name for name in before if ".separator." in name or name.endswith("embed_positions.table")}


def test_no_updates_train_nothing(learner, told):
    pool, tokens = told
    settings = WarmUpSettings(updates=0)
    before = [tensor.detach().clone() for tensor in learner.trained]
    assert (
        warm_up(learner, {"words": pool}, tokens, settings, ways=(2,), shots=(1,), label_tokens=range(4, 30), seed=0)
        == []
    )
    assert all(torch.equal(new, old) for new, old in zip(learner.trained, before, strict=True))


@torch.no_grad()
def test_surprise_is_the_mean_over_tokens():
    lm = tiny_lm(max_position_embeddings=600)
    rows = ([5, 6], [7, 8, 9])
    logs = [lm(torch.tensor([[2, *row, *row]])).logits.log_softmax(-1)[0] for row in rows]
    first = [float(log[place, unit]) for log, row in zip(logs, rows, strict=True) for place, unit in enumerate(row)]
    again = [
        float(log[place, unit])
        for log, row in zip(logs, rows, strict=True)
        for place, unit in enumerate(row, start=len(row))
    ]
    assert surprise_when_repeated(lm, rows) == pytest.approx((-sum(first) / 5, -sum(again) / 5))


class CopyingModel(torch.nn.Module):
    """Answers with the label that followed the same utterance before; `trust` is how sure it is."""

    max_utterance_tokens = 100
    device = torch.device("cpu")

    def __init__(self, trust):
        super().__init__()
        self.trust = torch.nn.Parameter(torch.tensor(trust))
        self.lm_head = torch.nn.Identity()

    def read_utterances(self, input_ids, attention_mask, prompt, *, at_separator):
        states = torch.zeros(*input_ids.shape, VOCAB_SIZE)
        for row, ids in enumerate(input_ids.tolist()):
            label_of, start = {}, 1
            for column, token in enumerate(ids):
                if token == 0:
                    utterance = tuple(ids[start:column])
                    if utterance in label_of:
                        states[row, column, label_of[utterance]] = 1.0
                    if column + 1 < len(ids):
                        label_of[utterance] = ids[column + 1]
                    start = column + 2
        states = states * self.trust
        last = attention_mask.sum(1) - 1
        return SimpleNamespace(
            hidden_states=states[torch.arange(len(states)), last].unsqueeze(1) if at_separator else states
        )


def test_a_model_that_copies_is_right_unless_labels_are_shuffled(told):
    pool, tokens = told
    learner = Learner(CopyingModel(1.0), None)
    episodes = draw_episodes(pool, ways=3, shots=2, number=300, label_tokens=range(4, 30), seed=0)

    def accuracy(asked):
        return np.mean([said == each.answer for said, each in zip(learner.answer(asked, tokens), asked, strict=True)])

    assert accuracy(episodes) == 1.0
    assert abs(accuracy(shuffle_told_labels(episodes, 0)) - 1 / 3) < 0.1


@pytest.mark.parametrize("ask", ["query", "repeats"])
def test_warm_up_finds_trust_in_what_the_context_tells(told, ask):
    pool, tokens = told
    learner = Learner(CopyingModel(-1.0), None)
    settings = WarmUpSettings(updates=60, learning_rate=0.3, ask=ask)
    losses = warm_up(
        learner, {"words": pool}, tokens, settings, ways=(2, 3), shots=(2,), label_tokens=range(4, 30), seed=0
    )
    # The loss of chance is 1.
    assert losses[0] > 1.3 and np.mean(losses[-5:]) < 0.1 and learner.lm.trust.item() > 3


def test_too_long_episodes_of_warm_up_end_before_the_first_update(told):
    pool, tokens = told
    learner = Learner(CopyingModel(-1.0), None)
    settings = WarmUpSettings(updates=60, batch_size=1)
    options = {"ways": (2,), "shots": (1,), "label_tokens": range(4, 30), "seed": 0}
    with pytest.raises(ConfigurationError, match=r"^warm_up words: an episode has \d+ tokens, the base reads 100"):
        warm_up(learner, {"words": pool}, [*tokens[:-1], [4] * 100], settings, **options)
    assert learner.lm.trust.item() == -1.0
    warm_up(learner, {"words": pool}, tokens, settings, **options)
    assert learner.lm.trust.item() != -1.0


def test_labels_are_units_or_spare_rows(long_base):
    base = open_base("default", long_base)
    lm = tiny_lm()
    assert label_token_ids(base, "units") == tuple(range(4, VOCAB_SIZE))
    few = replace(base, vocabulary=UnitVocabulary.from_num_units(20))
    assert label_token_ids(few, "units") == tuple(range(4, 24))
    assert label_token_ids(few, "spare", lm) == tuple(range(24, VOCAB_SIZE))
    with pytest.raises(ConfigurationError, match="has 30 tokens, none of them spare"):
        label_token_ids(base, "spare", lm)


def test_an_encoder_hears_all_labels_at_once(tmp_path):
    tiny_mbart().save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="the base default is an encoder-decoder model"):
        make_learner(open_base("default", str(tmp_path)), PROMPT, WarmUpSettings(), seed=0)
