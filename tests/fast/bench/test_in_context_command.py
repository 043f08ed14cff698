"""`speechprompt bench` with a suite of kind in-context."""

import json

import pytest

from speechprompt_cli.main import main
from tests.fixtures.tiny_models import PEFT_WARNING, tiny_lm

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

SUITE = """
kind: in-context
datasets: [{name: words, synthetic: {rows: 60, labels: 4}}]
tasks: [{name: within, warm_up: [words], test: [words], test_classes: 2, test_speakers: 0.5}]
methods:
  - {name: nearest, kind: nearest}
  - {name: deep, kind: prompt, settings: {updates: 1, batch_size: 1}}
baseline: nearest
ways: [2]
shots: [1]
episodes: 6
check_episodes: 6
"""


@pytest.fixture
def bench(capsys):
    """Runs the command; exit code, and what it printed to both streams."""

    def run(*arguments):
        capsys.readouterr()
        code = main(["bench", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_the_command_runs_writes_and_goes_on(bench, tmp_path):
    tiny_lm(std=0.15, max_position_embeddings=200).save_pretrained(tmp_path / "tiny")
    (tmp_path / "told.yaml").write_text(SUITE)
    places = ["--work", tmp_path / "w", "--output", tmp_path / "o", "--base", tmp_path / "tiny", "--seeds", 1]
    code, out, _ = bench(tmp_path / "told.yaml", *places, "--json")
    first = json.loads(out)
    assert code == 0 and first["command"] == "speechprompt bench told.yaml --base tiny --seeds 1"
    assert [line["method"] for line in first["lines"]] == ["nearest", "deep"]
    assert len(first["files"]) == 5
    code, out, _ = bench(tmp_path / "told.yaml", *places)
    assert code == 0 and "0 of 2 cells were computed now" in out and "### words, 2-way, 1-shot" in out
    # More classes than the test has.
    (tmp_path / "told.yaml").write_text(SUITE.replace("ways: [2]", "ways: [3]"))
    code, _, said = bench(tmp_path / "told.yaml", *places)
    assert code == 1 and "2 cell(s) failed; the same command tries them again" in said


def test_the_list_has_the_ready_suite(bench):
    code, out, _ = bench("in-context", "--list", "--json")
    (suite,) = json.loads(out)["suites"]
    assert code == 0 and suite["name"] == "in-context" and suite["choose_on"] == []
    assert "nearest" in suite["methods"] and "lt-words" in suite["datasets"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["in-context"], "not one task of the suite in-context has all its data sets"),
        (["in-context", "--base", "units50=x"], "the suite in-context knows no base 'units50'"),
        (["in-context", "--only", "words"], "'words' in only (--only) names nothing of the suite in-context"),
    ],
)
def test_what_a_user_can_get_wrong_is_exit_code_2(bench, tmp_path, arguments, words):
    code, _, said = bench(*arguments, "--work", tmp_path / "w", "--output", tmp_path / "o")
    assert code == 2 and words in " ".join(said.split())
