"""`speechprompt train`: where the prompt is trained and what it begins with."""

import json

import pytest

from tests.fixtures.tiny_models import PEFT_WARNING
from tests.fixtures.unit_tasks import save_tiny_base, utterances

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    save_tiny_base(folder / "base")
    utterances(60, 0, "abcdef").to_parquet(str(folder / "rows.parquet"))
    return folder


def train(speechprompt, work, output, *options):
    command = ["train", "--dataset", work / "rows.parquet", "--base", work / "base", "--output", output]
    return speechprompt(*command, "--epochs", 1, *options, "--json")


def test_layers_and_beginning_reach_the_adapter(speechprompt, work, tmp_path):
    answer = train(speechprompt, work, tmp_path / "a", "--prompt-layers", "upper", "--prompt-init", "class_means")
    assert answer.code == 0, answer.err
    # One of two layers, five columns of width 32, the separator, and the verbalizer's two scores of three labels.
    assert answer.json["trained_parameters"] == 2 * 5 * 32 + 32 + 3 * 2 * 30
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (config["prompt_layers"], config["prompt_init"]) == ("upper", "class_means")
    assert answer.json["training"]["settings"]["prompt_layers"] == "upper"


def test_the_verbalizer_may_have_two_layers(speechprompt, work, tmp_path):
    options = ("--verbalizer-hidden-size", "16", "--label-smoothing", "0.1")
    answer = train(speechprompt, work, tmp_path / "a", *options)
    assert answer.code == 0, answer.err
    prompt_and_separator, verbalizer = 2 * 2 * 5 * 32 + 32, 16 * (30 + 1) + 3 * (2 * 16 + 1)
    assert answer.json["trained_parameters"] == prompt_and_separator + verbalizer
    assert answer.json["training"]["settings"]["label_smoothing"] == 0.1
    assert json.loads((tmp_path / "a" / "config.json").read_text())["verbalizer_hidden_size"] == 16


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prompt-layers", "middle"], "middle"),
        (["--prompt-init", "ones"], "ones"),
        (["--verbalizer-hidden-size", "5", "--verbalizer", "random"], "verbalizer_hidden_size is 5 with a 'random'"),
        (["--prompt-layers", "encoder"], "prompt_layers is 'encoder', and the base has no encoder"),
        (["--prompt-layers", "lower", "--prompt", "input"], "prompt_layers is 'lower' with an input prompt"),
        (
            ["--prompt-init", "frequent_units", "--num-virtual-tokens", "27"],
            "needs 27 distinct units for 27 prompt columns, and the training rows have 26",
        ),
    ],
)
def test_what_does_not_go_together_is_exit_code_2(speechprompt, work, tmp_path, options, words):
    answer = train(speechprompt, work, tmp_path / "a", *options)
    assert answer.code == 2 and answer.out == ""
    assert words in " ".join(answer.err.replace("│", " ").split()), answer.err
    assert "Traceback" not in answer.err and not (tmp_path / "a" / "config.json").exists()


def test_layers_that_the_base_lacks_are_told_before_units_are_made(work, tmp_path, monkeypatch):
    from speechprompt_hf.core.errors import ConfigurationError
    from speechprompt_hf.training import TrainingSettings, experiment

    monkeypatch.setattr(experiment, "prepared_splits", lambda *given, **options: pytest.fail("units were made"))
    given = (str(work / "rows.parquet"), tmp_path / "a")
    with pytest.raises(ConfigurationError, match="the base has no encoder"):
        experiment.run_experiment(*given, base=work / "base", settings=TrainingSettings(prompt_layers="decoder"))
