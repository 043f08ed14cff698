"""`speechprompt bench`: the smoke suite end to end, the listing, and what a user can get wrong."""

import pytest

from tests.fixtures.tiny_models import PEFT_WARNING
from tests.fixtures.unit_tasks import save_tiny_base

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny_base(tmp_path_factory.mktemp("base"))


def test_smoke_needs_no_data_and_is_computed_once(speechprompt, tiny, tmp_path):
    command = ["bench", "smoke", "--work", tmp_path / "work", "--output", tmp_path / "out", "--base", tiny]
    first = speechprompt(*command, "--seeds", 1, "--device", "cpu", "--json")
    assert first.code == 0
    assert first.json["num_cells"] == 2 * 3 + 3 and not first.json["failed"]
    assert first.json["command"] == f"speechprompt bench smoke --base {tiny.name} --seeds 1 --device cpu"
    names = {path.name for path in (tmp_path / "out" / "smoke").iterdir()}
    pictures = {"synthetic-words.png", "synthetic-pair.png"}
    assert names == {"cells.csv", "table.md", "summary.json", "report.html"} | pictures
    again = speechprompt(*command, "--seeds", 1, "--device", "cpu")
    assert "0 of 9 cells were computed now" in again.out
    assert "## synthetic-words" in again.out and "| tfidf |" in again.out
    part = speechprompt(*command, "--seeds", 1, "--only", "synthetic-pair/tfidf", "--json").json
    assert [(line["dataset"], line["method"]) for line in part["lines"]] == [("synthetic-pair", "tfidf")]


def test_the_list_says_what_is_there(speechprompt, tmp_path):
    (tmp_path / "fsdd").mkdir()
    answer = speechprompt("bench", "--list", "--data-root", tmp_path)
    assert answer.code == 0
    assert "fsdd-digits (there)" in answer.out and "lt-words (missing)" in answer.out
    listed = speechprompt("bench", "smoke", "--list", "--json").json
    assert [suite["name"] for suite in listed["suites"]] == ["smoke"]
    assert all(dataset["there"] for dataset in listed["datasets"])


def test_a_suite_of_one_s_own_with_a_failing_cell(speechprompt, tiny, tmp_path):
    path = tmp_path / "mine.yaml"
    # 26 units cannot stand for 30 labels.
    path.write_text(
        "datasets:\n"
        "  - {name: many, synthetic: {rows: 300, labels: 30, units: 60}}\n"
        "  - {name: few, synthetic: {rows: 40, labels: 2, units: 20}}\n"
        "methods: [majority, deep-random]\nseeds: [0]\nsettings: {num_epochs: 1}\n"
    )
    command = ["bench", path, "--work", tmp_path / "w", "--output", tmp_path / "o", "--base", tiny]
    answer = speechprompt(*command)
    assert answer.code == 1
    assert "## mine" not in answer.out and "# mine" in answer.out
    assert "## Failed" in answer.out and "many/deep-random" in answer.out
    assert "1 cell(s) failed; the same command tries them again" in answer.err
    assert (tmp_path / "o" / "mine" / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a suite"),
        (["smok"], "there is no suite 'smok'"),
        (["absent.yaml"], "absent.yaml cannot be read"),
        (["smoke", "--only", "words"], "'words' in only (--only) names nothing of the suite smoke"),
        (["smoke", "--seeds", "0"], "--seeds"),
        (["smoke", "--base", "units50=x"], "the suite smoke knows no base 'units50'"),
        (["smoke", "--base", "ABSENT"], "absent"),
        (["smoke", "--device", "abacus"], "the device is 'abacus'"),
        (["classification"], "not one data set of the suite classification is there"),
        (["classification", "--data-root", "ABSENT"], "is no folder"),
        (["classification", "--data-root", "EMPTY"], "there is no lt_speech_commands in the data root"),
    ],
)
def test_what_a_user_can_get_wrong_is_exit_code_2(speechprompt, tmp_path, arguments, words):
    (tmp_path / "empty").mkdir()
    places = {"ABSENT": str(tmp_path / "absent"), "EMPTY": str(tmp_path / "empty")}
    given = [places.get(argument, argument) for argument in arguments]
    answer = speechprompt("bench", *given, *(["--work", tmp_path / "w", "--output", tmp_path / "o"]))
    assert answer.code == 2 and answer.out == ""
    assert words in " ".join(answer.err.replace("│", " ").split())
    assert "Traceback" not in answer.err
    assert not (tmp_path / "o").exists()
