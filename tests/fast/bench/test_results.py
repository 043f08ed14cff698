"""Cells become lines, tables, pictures and a page; intervals are those of the rows or speakers."""

import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from speechprompt_hf.bench.datasets import DatasetSpec, Protocol, Synthetic
from speechprompt_hf.bench.incomplete import Incomplete, incomplete
from speechprompt_hf.bench.jobs import Failure, Skipped
from speechprompt_hf.bench.methods import Method
from speechprompt_hf.bench.page import markdown
from speechprompt_hf.bench.plots import draw
from speechprompt_hf.bench.processes import leave_group, use_one_device
from speechprompt_hf.bench.results import repeating_command, summary_of, write_results
from speechprompt_hf.bench.runner import SuiteRun
from speechprompt_hf.bench.suite import Suite
from speechprompt_hf.bench.summary import summarize
from speechprompt_hf.bench.tables import legend, line_texts
from speechprompt_hf.core.errors import ConfigurationError
from tests.fixtures.bench_cells import SPEAKERS, cell


def suite(*names, folds=1, **options):
    protocol = Protocol("grouped", folds=folds) if folds > 1 else Protocol()
    spec = DatasetSpec("d|1", title="title <b>", synthetic=Synthetic(), note="note", protocol=protocol)
    options = {"baseline": names[0], "seeds": (0, 1), **options}
    return Suite("s", (spec,), tuple(Method(name, "tfidf") for name in names), **options)


def half(share, size=50):
    """The first rows of every ten are right."""
    return [row % 10 < 10 * share for row in range(size)]


def test_a_line_means_over_folds_and_deviates_over_seeds():
    cells = [
        cell("a", [1, 1, 1, 0], fold="1"),
        cell("a", [0, 0], fold="2", seconds=4.0, cpu_seconds=9.0, peak_memory=180 * 2**20),
        cell("a", [1, 1, 1, 1], fold="1", seed=1),
        cell("a", [0, 1], fold="2", seed=1, peak_memory=150 * 2**20),
    ]
    (line,) = summarize(suite("a", folds=2), cells)
    accuracies = [3 / 6, 5 / 6]
    assert line.accuracy == pytest.approx(np.mean(accuracies))
    assert line.deviation == pytest.approx(np.std(accuracies, ddof=1))
    assert (line.num_seeds, line.num_folds, line.num_rows, line.trained_parameters) == (2, 2, 6, 7)
    # What a cell costs is the median: the first of a process also pays for what is loaded at first use.
    assert (line.seconds, line.cpu_seconds, line.memory) == (2.0, 3.0, 40 * 2**20)
    assert line.difference is None and line.baseline is None


def test_seeds_without_all_folds_do_not_count():
    cells = [cell("a", [1], fold="1"), cell("a", [0], fold="2"), cell("a", [0], fold="1", seed=1)]
    declared = replace(suite("a", "b", folds=2), methods=tuple(Method(name, "prompt") for name in "ab"))
    (line,) = summarize(declared, cells)
    assert (line.num_seeds, line.num_planned_seeds) == (1, 2)
    assert line.accuracy == 0.5 and line.deviation is None
    assert "1 of 2" in line_texts(line, ["seeds"])
    assert summarize(declared, [*cells, cell("b", [1], fold="1")]) == [line]
    assert "seeds: those that have all folds" in " ".join(legend([line]))


def test_a_fold_that_fails_for_every_method_is_missed(tmp_path):
    declared = suite("a", "b", folds=5)
    cells = [cell("a", half(0.5), fold=fold) for fold in ("fold 1", "fold 2", "fold 4")]
    assert summarize(declared, cells) == []
    planned = [("d|1", "a", None), ("d|1", "b", None)]
    assert incomplete(declared, cells, planned) == [
        Incomplete("d|1", "a", None, 3, 5),
        Incomplete("d|1", "b", None, 0, 5),
    ]
    assert incomplete(declared, cells) == [Incomplete("d|1", "a", None, 3, 5)]
    run = SuiteRun(declared, cells=cells, planned=planned, failed=[Failure("d|1/a, fold 3", "ValueError: x")])
    write_results(run, tmp_path, "command")
    table, page = ((tmp_path / "s" / name).read_text() for name in ("table.md", "report.html"))
    assert "| a | incomplete: 3 of 5 folds |" in table and "| b | incomplete: 0 of 5 folds |" in table
    assert "<td>incomplete: 3 of 5 folds</td>" in page and "0.5000" not in table + page
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    assert summary["lines"] == [] and [each["num_done"] for each in summary["incomplete"]] == [3, 0]
    # Beside a whole method there are its columns.
    whole = [*cells, *(cell("b", half(0.8), fold=f"fold {fold}") for fold in range(1, 6))]
    text = markdown(SuiteRun(declared, cells=whole), summarize(declared, whole), "x")
    rows = [row for row in text.splitlines() if row.startswith("| ")]
    assert len({row.count("|") for row in rows}) == 1 and rows[-1].startswith("| a | incomplete: 3 of 5 folds |  |")


def test_speakers_who_agree_widen_the_interval():
    by_speaker = [speaker in {"s0", "s1", "s2", "s3", "s4"} for speaker in SPEAKERS]
    (grouped,) = summarize(suite("a"), [cell("a", by_speaker)])
    (single,) = summarize(suite("a"), [cell("a", by_speaker, speakers=[None] * 50)])
    assert grouped.over == "speakers" and single.over == "rows"
    assert grouped.accuracy == single.accuracy == 0.5
    width = grouped.interval[1] - grouped.interval[0]
    # Ten speakers all right or all wrong: as ten coin flips.
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 10), rel=0.15)
    assert single.interval[1] - single.interval[0] == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 50), rel=0.15)


def test_rows_without_a_speaker_are_drawn_alone_among_speakers():
    speakers = [*SPEAKERS[:40], *[None] * 10]
    (line,) = summarize(suite("a"), [cell("a", half(0.5), speakers=speakers)])
    assert line.over == "speakers"


def test_pairs_narrow_the_difference():
    worse, better = half(0.5), half(0.6)
    lines = summarize(suite("a", "b"), [cell("a", worse), cell("b", better)])
    assert [line.difference for line in lines] == [None, pytest.approx(0.1)]
    low, high = lines[1].difference_interval
    # The same rows are right: the difference is surer than either accuracy.
    assert 0 <= low <= 0.1 <= high and high - low < lines[1].interval[1] - lines[1].interval[0]
    assert lines[1].baseline == "a"


def test_other_rows_make_no_pair():
    other = cell("b", half(0.6))
    other["predictions"]["item"] = [f"other {row}" for row in range(50)]
    other["rows"] = "others"
    assert [line.difference for line in summarize(suite("a", "b"), [cell("a", half(0.5)), other])] == [None, None]


def test_renamed_rows_and_other_bases_make_pairs():
    renamed, based = cell("b", half(0.6)), cell("b", half(0.6), rows="of another base")
    renamed["predictions"]["item"] = [f"renamed {row}" for row in range(50)]
    for other in (renamed, based):
        lines = summarize(suite("a", "b"), [cell("a", half(0.5)), other])
        assert [line.difference for line in lines] == [None, pytest.approx(0.1)]


def test_all_right_is_the_exact_interval():
    (line,) = summarize(suite("a"), [cell("a", [1] * 20)])
    assert line.interval == (pytest.approx(0.025 ** (1 / 20)), 1.0)


def test_a_method_may_name_its_own_baseline():
    methods = tuple(replace(method, baseline="b") for method in suite("c").methods)
    declared = replace(suite("a", "b"), methods=(*suite("a", "b").methods, *methods))
    lines = summarize(declared, [cell(name, half(share)) for name, share in (("a", 0.1), ("b", 0.4), ("c", 0.5))])
    assert [line.baseline for line in lines] == [None, "a", "b"]
    assert lines[2].difference == pytest.approx(0.1)


@pytest.fixture
def run():
    cells = [cell(name, half(share), seed=seed) for name, share in (("a", 0.5), ("b", 0.8)) for seed in (0, 1)]
    return SuiteRun(
        suite("a", "b"),
        cells=cells,
        skipped=[Skipped("x", None, "absent"), Skipped("y", "m", "no base")],
        failed=[Failure("d|1/a", "ValueError: <bad>")],
        left_out={"d|1": 3},
    )


def test_files_of_a_run(run, tmp_path):
    files = write_results(run, tmp_path, "speechprompt bench s --only 'd|1'")
    assert {path.name for path in files} == {"cells.csv", "table.md", "summary.json", "report.html", "d|1.png"}
    assert all(path.is_file() for path in files)
    folder = tmp_path / "s"
    rows = list(csv.DictReader(io.StringIO((folder / "cells.csv").read_text())))
    assert [(row["method"], row["seed"], row["accuracy"]) for row in rows[:3]] == [
        ("a", "0", "0.5"),
        ("a", "1", "0.5"),
        ("b", "0", "0.8"),
    ]
    table = (folder / "table.md").read_text()
    assert "Made by `speechprompt bench s --only 'd|1'`." in table
    assert "| b | 0.8000 ± 0.0000 |" in table and "+0.3000 (" in table and "30 MB" in table
    assert "EER" not in table and "shots" not in table.split("## How")[0]
    for remark in ("- x: absent", "- y/m: no base", "- d|1: 3 recording(s)", "- d|1/a: ValueError: <bad>"):
        assert remark in table
    widths = {line.count("|") for line in table.splitlines() if line.startswith("| ")}
    assert len(widths) == 1
    summary = json.loads((folder / "summary.json").read_text())
    assert summary == json.loads(json.dumps(summary_of(run, summary["command"])))
    assert [line["method"] for line in summary["lines"]] == ["a", "b"]


def test_the_page_needs_nothing_else_and_escapes_text(run, tmp_path):
    write_results(run, tmp_path, "command <x>")
    page = (tmp_path / "s" / "report.html").read_text()
    assert "title &lt;b&gt;" in page and "<bad>" not in page and "command &lt;x&gt;" in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 1 and sources[0].startswith("data:image/png;base64,")
    assert "torch x" in page and "absent" in page


def test_pictures_are_png_and_repeatable(run):
    lines = summarize(run.suite, run.cells)
    picture = draw("t", lines)
    assert picture.startswith(b"\x89PNG") and picture == draw("t", lines)
    curves = [replace(line, shots=shots, accuracy=shots / 10) for line in lines for shots in (1, 5)]
    assert draw("t", curves).startswith(b"\x89PNG") and draw("t", curves) != picture


def test_shots_have_lines_of_their_own():
    cells = [cell("a", half(share), shots=shots) for shots, share in ((1, 0.2), (5, 0.6))]
    lines = summarize(suite("a", shots=(1, 5)), cells)
    assert [(line.shots, line.accuracy) for line in lines] == [(1, 0.2), (5, pytest.approx(0.6))]


def test_the_command_names_no_folder_of_this_machine(tmp_path):
    command = repeating_command(
        str(tmp_path / "mine.yaml"), bases=[str(tmp_path), f"x={tmp_path}"], only=["*/a"], num_seeds=2, device="cpu"
    )
    assert str(tmp_path.parent) not in command
    assert command == (
        f"speechprompt bench mine.yaml --data-root DATA --base {tmp_path.name} --base x={tmp_path.name} "
        "--only '*/a' --seeds 2 --device cpu"
    )
    assert repeating_command("smoke", needs_data=False) == "speechprompt bench smoke"


def test_a_launched_process_leaves_its_group():
    launched = {
        "WORLD_SIZE": "4",
        "RANK": "3",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "x",
        "MASTER_PORT": "1",
        "TORCHELASTIC_RUN_ID": "r",
        "ACCELERATE_MIXED_PRECISION": "no",
        "CUDA_VISIBLE_DEVICES": "5,7",
        "HOME": "h",
    }
    assert leave_group(launched) == (3, 4, 1)
    assert launched == {"CUDA_VISIBLE_DEVICES": "5,7", "HOME": "h"}
    assert leave_group({"HOME": "h"}) == (0, 1, 0)


@pytest.mark.parametrize(
    ("device", "local_rank", "visible", "left"),
    [
        (None, 0, "5,7", "5"),
        (None, 3, "5,7", "7"),
        (None, 3, "5", "5"),
        (None, 0, "", ""),
        ("cpu", 1, "5,7", "5,7"),
    ],
)
def test_a_process_sees_one_gpu(device, local_rank, visible, left):
    environment = {"CUDA_VISIBLE_DEVICES": visible}
    use_one_device(device, local_rank, environment)
    assert environment == {"CUDA_VISIBLE_DEVICES": left}


def test_a_numbered_gpu_is_one_of_the_visible(monkeypatch):
    monkeypatch.setattr("speechprompt_hf.bench.processes.usable_device", str)
    environment = {"CUDA_VISIBLE_DEVICES": "5,7"}
    use_one_device("cuda:1", 0, environment)
    assert environment == {"CUDA_VISIBLE_DEVICES": "7"}
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    environment = {}
    use_one_device("cuda", 1, environment)
    assert environment == {"CUDA_VISIBLE_DEVICES": "1"}


@pytest.mark.parametrize(
    ("device", "words"),
    [("tpu", "the device is 'tpu'"), ("cpu:0", "the device is 'cpu:0'"), ("cuda:2", "2 GPU\\(s\\) are visible")],
)
def test_a_device_that_is_none(device, words):
    with pytest.raises(ConfigurationError, match=words):
        use_one_device(device, 0, {"CUDA_VISIBLE_DEVICES": "5,7"})


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK is 2 and WORLD_SIZE is 2"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
    ],
)
def test_numbers_of_processes_that_contradict_each_other(environment, words):
    with pytest.raises(ConfigurationError, match=words):
        leave_group(environment)
