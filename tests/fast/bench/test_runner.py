"""A suite is computed once: resumed, renamed, partly missing, failing, held by another process."""

import shutil
import threading
import time
from dataclasses import replace

import pytest

from speechprompt_hf.bench import cells, runner
from speechprompt_hf.bench.bases import named_bases, open_base, suite_bases
from speechprompt_hf.bench.cells import make_cells
from speechprompt_hf.bench.datasets import DatasetSpec, Protocol
from speechprompt_hf.bench.loading import open_dataset
from speechprompt_hf.bench.methods import READY_METHODS, Method
from speechprompt_hf.bench.results import write_results
from speechprompt_hf.bench.runner import run_suite
from speechprompt_hf.bench.store import ResultStore
from speechprompt_hf.bench.suite import Suite
from speechprompt_hf.core.embedded import DEFAULT_BASE, UNIT_MBART_BASE
from speechprompt_hf.core.errors import ConfigurationError, DatasetError, FingerprintMismatchError
from speechprompt_hf.core.files import read_json, write_json
from speechprompt_hf.core.vocabulary import UnitVocabulary
from tests.fixtures.bench_cells import stop_and_go_on
from tests.fixtures.speech_encoders import unit_processor
from tests.fixtures.tiny_models import PEFT_WARNING, tiny_lm
from tests.fixtures.unit_mbarts import DECODER_LAYERS, ENCODER_LAYERS, MBART_WIDTH, tiny_mbart

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


def numbers(run):
    """What must not differ between runs; times do."""
    return [(cell["key"], cell["accuracy"], cell["macro_f1"], cell["predictions"]) for cell in run.cells]


def test_a_stopped_run_goes_on_and_gives_the_same(quick_suite, tiny_base, tmp_path, monkeypatch):
    suite = replace(quick_suite, datasets=quick_suite.datasets[1:])
    whole = run_suite(suite, work=tmp_path / "whole", bases=[tiny_base])
    # Baselines once, the prompt with two seeds.
    assert whole.num_computed == len(whole.cells) == 1 + 1 + 2
    again = stop_and_go_on(
        monkeypatch, runner, "compute_cell", lambda: run_suite(suite, work=tmp_path / "stopped", bases=[tiny_base])
    )
    assert again.num_computed == whole.num_computed - 3
    assert numbers(again) == numbers(whole)
    cell = whole.cells[-1]
    assert cell["equal_error_rate"] is not None and len(cell["predictions"]["scores"]) == cell["num_rows"]["test"]
    tfidf = next(cell for cell in whole.cells if cell["method"] == "tfidf" and cell["dataset"] == "pair")
    assert tfidf["equal_error_rate"] is not None and tfidf["equal_error_rate"] <= 0.5
    assert cell["cpu_seconds"] > 0 and cell["seconds"] > 0
    assert cell["trained_parameters"] > 0 and cell["versions"]["torch"] and cell["base"]["weights"]["weights"]
    assert not list((tmp_path / "whole" / "scratch").glob("*"))
    assert whole.planned == [("pair", name, None) for name in ("majority", "tfidf", "prompt")]


@pytest.fixture
def opened(words, tiny_base, tmp_path):
    base = open_base("default", tiny_base)
    return open_dataset(words, None, base, cache_dir=tmp_path), base


def test_a_cell_is_known_by_what_it_depends_on(quick_suite, opened):
    data, base = opened
    prompt, tfidf = quick_suite.methods[2], quick_suite.methods[1]

    def keys(suite=quick_suite, method=prompt, base=base, data=data):
        return {cell.key for cell in make_cells(suite, data, method, base)}

    first = keys()
    assert len(first) == 4
    assert keys(method=replace(prompt, name="other name")) == first
    assert keys(suite=replace(quick_suite, name="other", baseline="majority")) == first
    # A default that is written down.
    assert keys(method=replace(prompt, settings={**prompt.settings, "prompt_layers": "all"})) == first
    other = replace(base, weights={**base.weights, "weights": "other"})
    for changed in (
        {"suite": replace(quick_suite, settings={"num_epochs": 2, "num_virtual_tokens": 2})},
        {"suite": replace(quick_suite, selection="best")},
        {"suite": replace(quick_suite, min_updates=50)},
        {"suite": replace(quick_suite, shots=(2,))},
        {"suite": replace(quick_suite, seeds=(5, 6))},
        {"method": replace(prompt, model={"prompt_init_std": 0.5})},
        {"method": replace(prompt, settings={**prompt.settings, "prompt_layers": "upper"})},
        {"method": replace(prompt, untrained=True)},
        {"method": replace(prompt, kind="finetune")},
        {"base": other},
        {"data": replace(data, digest="other")},
        {"data": replace(data, folds=tuple(replace(fold, test=fold.test[1:]) for fold in data.folds))},
    ):
        assert not keys(**changed) & first, changed
    # What reads no language model is the same on all of them.
    assert keys(method=tfidf, base=other) == keys(method=tfidf) and len(keys(method=tfidf)) == 2


def test_the_order_of_units_is_part_of_the_key(quick_suite, opened):
    data, base = opened
    tfidf, prompt = quick_suite.methods[1:]

    def keys(method, symbols):
        vocabulary = UnitVocabulary(tuple(map(str, symbols)))
        return {cell.key for cell in make_cells(quick_suite, data, method, replace(base, vocabulary=vocabulary))}

    for method in (prompt, Method("states", "hidden-states")):
        numeric, backward = keys(method, range(26)), keys(method, reversed(range(26)))
        assert numeric == keys(method, range(26))
        assert not backward & numeric and not backward & keys(method, [1, 0, *range(2, 26)])
    assert keys(tfidf, reversed(range(26))) == keys(tfidf, range(26))


def test_another_dict_txt_is_another_cell(quick_suite, words, tiny_base, tmp_path):
    suite = replace(quick_suite, datasets=(words,), methods=quick_suite.methods[1:], seeds=(0,))
    shutil.copytree(tiny_base, tmp_path / "other")
    (tmp_path / "other" / "dict.txt").write_text("".join(f"{unit} 1\n" for unit in reversed(range(26))))
    first = run_suite(suite, work=tmp_path / "work", bases=[tiny_base], device="cpu")
    assert run_suite(suite, work=tmp_path / "work", bases=[str(tmp_path / "other")], device="cpu").num_computed == 2
    assert first.num_computed == 4


def test_a_base_with_another_s_processor_is_refused(quick_suite, tmp_path):
    mine, foreign = unit_processor("hubert_two_convolutions"), unit_processor("hubert_base")
    for name, processor in (("mine", mine), ("mixed", foreign)):
        vocab_size = processor.tokenizer.vocabulary.num_units + 4
        tiny_lm(vocab_size=vocab_size, fingerprint=mine.fingerprint).save_pretrained(tmp_path / name)
        processor.save_pretrained(tmp_path / name, save_encoder=True)
    assert open_base("x", str(tmp_path / "mine")).units["digest"] == mine.fingerprint["digest"]
    with pytest.raises(
        FingerprintMismatchError, match=f"base default makes units {foreign.fingerprint['digest'][:16]}"
    ):
        run_suite(quick_suite, work=tmp_path / "w", bases=[str(tmp_path / "mixed")])
    # Recordings are known by what makes their units, also where the language model says nothing.
    tiny_lm(vocab_size=24).save_pretrained(tmp_path / "mixed")
    assert open_base("x", str(tmp_path / "mixed")).units["digest"] == foreign.fingerprint["digest"]


def test_a_data_set_that_cannot_be_opened_does_not_cost_the_others(quick_suite, words, tiny_base, tmp_path):
    bad = replace(words, name="bad", protocol=Protocol("grouped", folds=99))
    suite = replace(quick_suite, datasets=(bad, words), methods=quick_suite.methods[:2])
    run = run_suite(suite, work=tmp_path / "work", bases=[tiny_base])
    assert [(failure.cell, failure.error) for failure in run.failed] == [
        ("bad", "DatasetError: 10 values of speaker for 99 folds")
    ]
    assert {cell["dataset"] for cell in run.cells} == {"words"} and len(run.cells) == 4
    assert run.planned == [("words", "majority", None), ("words", "tfidf", None)]
    write_results(run, tmp_path / "out", "command")
    for name in ("table.md", "report.html", "summary.json"):
        assert "10 values of speaker for 99 folds" in (tmp_path / "out" / "quick" / name).read_text()


def test_shots_draw_rows_and_every_method_is_seeded_then(quick_suite, tiny_base, tmp_path):
    suite = replace(quick_suite, datasets=quick_suite.datasets[:1], methods=quick_suite.methods[:2], shots=(1, 3))
    run = run_suite(suite, work=tmp_path, bases=[tiny_base])
    sizes = {(cell["shots"], cell["num_rows"]["train"]) for cell in run.cells}
    assert sizes == {(1, 3), (3, 9)}
    assert len(run.cells) == 2 * 2 * 2 * 2  # methods, shots, seeds, folds


def test_the_best_epoch_needs_validation_rows_and_gets_them(quick_suite, words, tiny_base, tmp_path):
    held_out = Protocol("held-out", values=(("speaker 0", "speaker 1"),))
    suite = replace(quick_suite, selection="best", datasets=(replace(words, protocol=held_out),), seeds=(0,))
    run = run_suite(suite, work=tmp_path, bases=[tiny_base])
    assert all(cell["num_rows"]["validation"] > 0 for cell in run.cells)
    assert all(cell["validation_accuracy"] is not None for cell in run.cells)


@pytest.mark.parametrize(
    "method",
    [
        Method("finetune", "finetune"),
        Method("probe", "probe"),
        Method("states", "hidden-states"),
        Method("random states", "hidden-states", untrained=True),
        Method("table", "prompt", model={"prompt_parametrization": "table"}),
        Method("zero", "prompt", {"prompt_init": "scaled"}, {"prompt_init_std": 0.0}),
        Method("classes", "prompt", {"prompt_init": "class_means", "prompt_layers": "lower"}),
        Method("frequent", "prompt", {"prompt_init": "frequent_units", "prompt": "input"}),
        READY_METHODS["deep-frequency"],
        READY_METHODS["input-random"],
        READY_METHODS["untrained-deep-learnable"],
    ],
    ids=lambda method: method.name,
)
def test_every_method_runs(quick_suite, tiny_base, tmp_path, method):
    suite = replace(quick_suite, datasets=quick_suite.datasets[1:], methods=(method,), baseline=None, seeds=(0,))
    run = run_suite(suite, work=tmp_path, bases=[tiny_base], device="cpu")
    assert not run.failed
    (cell,) = run.cells
    assert 0 <= cell["accuracy"] <= 1 and cell["trained_parameters"] > 0


def test_fine_tuning_leaves_the_base_as_it_is(quick_suite, tiny_base, tmp_path):
    before = open_base("default", tiny_base).weights
    methods = (Method("finetune", "finetune"), READY_METHODS["deep-learnable"])
    suite = replace(quick_suite, methods=methods, datasets=quick_suite.datasets[1:], baseline=None, seeds=(0,))
    first = run_suite(suite, work=tmp_path / "a", bases=[tiny_base], only=["*/deep-learnable"])
    both = run_suite(suite, work=tmp_path / "b", bases=[tiny_base])
    assert open_base("default", tiny_base).weights == before
    assert numbers(first) == [row for row, cell in zip(numbers(both), both.cells) if cell["kind"] == "prompt"]  # noqa: B905


def test_missing_sets_and_bases_are_skipped(quick_suite, tiny_base, tmp_path):
    absent = DatasetSpec("absent", folder="no/such")
    further = (
        Method("elsewhere", "prompt", base="units50"),
        Method("tfidf 50", "tfidf", base="units50"),
        Method("encoder", "encoder-mean"),
    )
    suite = replace(
        quick_suite,
        datasets=(absent, *quick_suite.datasets[:1]),
        methods=(*quick_suite.methods[:2], *further),
        seeds=(0,),
    )
    notes = []
    run = run_suite(suite, work=tmp_path, bases=[tiny_base], on_note=notes.append)
    assert [(skip.dataset, skip.method) for skip in run.skipped] == [
        ("absent", None),
        ("words", "elsewhere"),
        ("words", "tfidf 50"),
        ("words", "encoder"),
    ]
    assert [skip.reason for skip in run.skipped] == [
        "no data root was given",
        *["no base is named units50: give units50=FOLDER in bases (--base)"] * 2,
        "the data set holds units, not recordings",
    ]
    assert {cell["method"] for cell in run.cells} == {"majority", "tfidf"}
    assert any("absent is skipped" in note for note in notes)
    (there,) = {skip.reason for skip in run_suite(suite, work=tmp_path, data_root=tmp_path).skipped[:1]}
    assert there == "there is no no/such in the data root"


def test_nothing_there_is_an_error(quick_suite, tmp_path):
    suite = replace(quick_suite, datasets=(DatasetSpec("absent", folder="no/such"),))
    with pytest.raises(DatasetError, match="not one data set of the suite quick is there: absent"):
        run_suite(suite, work=tmp_path, data_root=tmp_path)


def test_units_need_no_base_for_what_reads_none(quick_suite, tmp_path):
    spec = replace(quick_suite.datasets[0], base="hubert100")
    run = run_suite(replace(quick_suite, datasets=(spec,)), work=tmp_path)
    assert {cell["method"] for cell in run.cells} == {"majority", "tfidf"}
    assert [skip.method for skip in run.skipped] == ["prompt"]


def test_a_cell_that_fails_does_not_cost_the_others(quick_suite, tiny_base, tmp_path, monkeypatch):
    compute = runner.compute_cell

    def fail(cell, *arguments, **options):
        if cell.method.name == "tfidf":
            raise ConfigurationError("two\nlines", hint="h") if cell.fold.name == "fold 1" else ValueError("bad")
        return compute(cell, *arguments, **options)

    monkeypatch.setattr(runner, "compute_cell", fail)
    suite = replace(quick_suite, datasets=quick_suite.datasets[:1], methods=quick_suite.methods[:2])
    run = run_suite(suite, work=tmp_path, bases=[tiny_base])
    assert {cell["method"] for cell in run.cells} == {"majority"}
    assert [failure.error for failure in run.failed] == ["ConfigurationError: two lines", "ValueError: bad"]
    monkeypatch.setattr(runner, "compute_cell", compute)
    assert not run_suite(suite, work=tmp_path, bases=[tiny_base]).failed


def test_a_cell_that_another_process_computes_is_waited_for(quick_suite, tiny_base, tmp_path):
    suite = replace(quick_suite, datasets=quick_suite.datasets[:1], methods=quick_suite.methods[1:2])
    made = run_suite(suite, work=tmp_path / "made", bases=[tiny_base])
    store = ResultStore(tmp_path / "work")
    key = made.cells[0]["key"][:32]
    lock = store.lock(key)
    lock.acquire()
    notes = []

    def finish():
        while not any("another process" in note for note in notes):
            time.sleep(0.01)
        # As the other process would: the file first, then the lock.
        source = tmp_path / "made" / "cells" / "words" / f"{key}.json"
        write_json(store.work / "cells" / "words" / source.name, {**read_json(source), "seconds": 77.0})
        lock.release()

    other = threading.Thread(target=finish)
    other.start()
    run = run_suite(suite, work=store.work, bases=[tiny_base], on_note=notes.append)
    other.join()
    assert run.num_computed == len(run.cells) - 1
    # In the order of the plan, though the first came last.
    assert [cell["fold"] for cell in run.cells] == ["fold 1", "fold 2"]
    assert 77.0 in {cell["seconds"] for cell in run.cells}


def test_a_damaged_cell_is_an_error_that_names_the_file(quick_suite, tiny_base, tmp_path):
    suite = replace(quick_suite, datasets=quick_suite.datasets[:1], methods=quick_suite.methods[1:2])
    run_suite(suite, work=tmp_path, bases=[tiny_base])
    path = next((tmp_path / "cells").rglob("*.json"))
    for text, words in (("{}", "is not the cell words/tfidf"), ("{", "is not valid JSON")):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=words):
            run_suite(suite, work=tmp_path, bases=[tiny_base])


def test_bases_are_named_once():
    assert named_bases(["a/b", "units50=x=y"])["default"] == "a/b"
    assert named_bases(["units50=x=y"])["units50"] == "x=y"
    assert named_bases([]) == {"default": DEFAULT_BASE, "unit-mbart": UNIT_MBART_BASE}
    assert suite_bases("ablation", ["unit-mbart"], ["a/b"]) == {"default": "a/b", "unit-mbart": UNIT_MBART_BASE}
    assert suite_bases("words", [], []) == {"default": DEFAULT_BASE}
    with pytest.raises(ConfigurationError, match="the suite words knows no base 'unit-mbart'"):
        suite_bases("words", [], ["unit-mbart=a/b"])
    with pytest.raises(ConfigurationError, match="'default' is given twice: a and b"):
        named_bases(["a", "b"])
    for text in ("=x", "name="):
        with pytest.raises(ConfigurationError, match="write NAME=FOLDER"):
            named_bases([text])


def test_an_unknown_base_or_device(quick_suite, tmp_path):
    with pytest.raises(ConfigurationError, match="the suite quick knows no base 'units50'"):
        run_suite(quick_suite, work=tmp_path, bases=["units50=x"])
    with pytest.raises(ConfigurationError, match="the device is 'tpu'"):
        run_suite(quick_suite, work=tmp_path, device="tpu")


def test_the_method_s_own_choice_of_epoch_is_checked(quick_suite, opened, tmp_path):
    from speechprompt_hf.bench.methods import run_method

    data, base = opened
    method = quick_suite.methods[2]
    rows = data.fold_rows(data.folds[0], None, 0)
    settings = method.training_settings(quick_suite.settings, 0, len(rows.train))
    with pytest.raises(ConfigurationError, match="no validation rows to choose the epoch on"):
        run_method(method, rows, base, settings, seed=0, choose_epoch=True, scratch=tmp_path / "x")


def test_memory_is_measured_inside_the_block():
    import numpy as np

    from speechprompt_hf.bench.measure import PeakMemory

    def added(size):
        with PeakMemory() as memory:
            np.ones(size, dtype=np.uint8).sum()
        if memory.peak is None:
            pytest.skip("this system does not let a process set its peak back")
        return memory.peak - memory.before

    large, small = added(100 * 2**20), added(2**20)
    assert 90 * 2**20 < large < 160 * 2**20 and small < 50 * 2**20


def test_schema_is_part_of_the_key(quick_suite, opened, monkeypatch):
    data, base = opened
    before = [cell.key for cell in make_cells(quick_suite, data, quick_suite.methods[0], base)]
    monkeypatch.setattr(cells, "CELL_SCHEMA", 99)
    assert before != [cell.key for cell in make_cells(quick_suite, data, quick_suite.methods[0], base)]


def test_sides_of_an_encoder_decoder_base(words, tiny_base, tmp_path):
    tiny_mbart(std=0.15).save_pretrained(tmp_path / "mbart")
    methods = tuple(
        Method(f"{side} {init}", "prompt", {"prompt_layers": side, "prompt_init": init}, base="two-sided")
        for side, init in (("encoder", "normal"), ("decoder", "class_means"))
    )
    held_out = Protocol("held-out", values=(("speaker 0", "speaker 1"),))
    settings = {"num_epochs": 1, "num_virtual_tokens": 2}
    suite = Suite("sides", (replace(words, protocol=held_out),), methods, seeds=(0,), settings=settings)
    run = run_suite(suite, work=tmp_path / "work", bases=[tiny_base, f"two-sided={tmp_path / 'mbart'}"])
    assert not run.failed, run.failed
    states = replace(suite, methods=(Method("states", "hidden-states", base="two-sided"),))
    read = run_suite(states, work=tmp_path / "work", bases=[f"two-sided={tmp_path / 'mbart'}"])
    assert not read.failed and [cell["trained_parameters"] for cell in read.cells] == [3 * MBART_WIDTH + 3]
    sizes = [cell["trained_parameters"] for cell in run.cells]
    assert sizes[1] - sizes[0] == 2 * 2 * MBART_WIDTH * (DECODER_LAYERS - ENCODER_LAYERS)
    skipped = run_suite(suite, work=tmp_path / "other", bases=[tiny_base]).skipped
    assert [skip.method for skip in skipped] == [method.name for method in methods]
