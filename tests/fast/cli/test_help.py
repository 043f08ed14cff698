"""Help is instant and understandable: neither torch nor a model is imported for it."""

import json
import os
import subprocess
import sys

import pytest

from speechprompt_cli.main import COMMANDS

HELP = """
import json, sys
from speechprompt_cli.main import main
code = main(json.loads(sys.argv[1]))
print(json.dumps({"code": code, "modules": sorted(sys.modules)}), file=sys.stderr)
"""
FORBIDDEN = ("torch", "transformers", "peft", "datasets", "numpy", "speechprompt_hf", "sklearn", "soundfile")


def help_of(*arguments):
    command = [sys.executable, "-c", HELP, json.dumps([*arguments, "--help"])]
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return done.stdout, json.loads(done.stderr.splitlines()[-1])


def cpu_seconds(code):
    """CPU seconds of a new interpreter; unlike wall time they do not depend on what else this machine does."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize(
    "arguments", [(), *((name,) for name in COMMANDS)], ids=lambda each: each[0] if each else "top"
)
def test_help_imports_no_model_library(arguments):
    text, record = help_of(*arguments)
    assert record["code"] == 0
    assert not [name for name in record["modules"] if name.split(".")[0] in FORBIDDEN]
    assert "Usage: speechprompt" in text


def test_help_lists_every_command():
    text, _ = help_of()
    assert all(f" {name} " in text for name in COMMANDS)


def test_help_takes_less_time_than_importing_transformers():
    help_code = "from speechprompt_cli.main import main; main(['--help'])"
    taken = min(cpu_seconds(help_code) for _ in range(3))
    reference = min(cpu_seconds("import transformers") for _ in range(3))
    # 0.5 s where `import transformers` alone takes 0.75 s.
    assert taken < reference * 0.5 / 0.75


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name):
    import typer

    from speechprompt_cli.main import app

    command = typer.main.get_command(app).commands[name]
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name} {parameter.name} has no help"
    assert len(command.help) > 60


def test_defaults_are_those_of_the_library():
    import inspect

    from speechprompt_cli.commands import distill, pretrain, quickstart, train
    from speechprompt_cli.options import DEFAULT_BASE
    from speechprompt_hf.core import embedded
    from speechprompt_hf.pretraining.distillation import DistillationConfig
    from speechprompt_hf.pretraining.gslm_pretraining import PretrainingConfig
    from speechprompt_hf.pretraining.unit_mbart_pretraining import UnitMBartPretrainingConfig
    from speechprompt_hf.synthesis.espeak import VARIANTS
    from speechprompt_hf.training import TrainingSettings

    assert embedded.DEFAULT_BASE == DEFAULT_BASE
    settings, given = TrainingSettings(), inspect.signature(train.run).parameters
    for option, name in {"epochs": "num_epochs"}.items():
        assert given[option].default == getattr(settings, name)
    names = ("prompt", "num_virtual_tokens", "prompt_layers", "prompt_init", "verbalizer", "readout", "patience")
    for name in (*names, "batch_size", "verbalizer_hidden_size", "label_smoothing"):
        assert given[name].default == getattr(settings, name), name
    assert (settings.learning_rate, settings.finetune_learning_rate) == (0.01, 0.0005)  # told by --learning-rate
    config, mbart = PretrainingConfig(), UnitMBartPretrainingConfig()
    given = inspect.signature(pretrain.run).parameters
    assert (given["steps"].default, given["tokens_per_step"].default) == (config.num_steps, config.tokens_per_step)
    assert given["width"].default == config.model["hidden_size"] == mbart.model["hidden_size"]
    # Told by the help of --layers, which depends on the architecture.
    assert config.model["num_hidden_layers"] == 4
    assert (mbart.model["num_encoder_layers"], mbart.model["num_hidden_layers"]) == (2, 2)
    assert (mbart.num_steps, mbart.tokens_per_step) == (config.num_steps, config.tokens_per_step)
    assert given["learning_rate"].default == config.learning_rate
    assert inspect.signature(distill.run).parameters["frames_per_step"].default == DistillationConfig().frames_per_step
    assert len(VARIANTS) == quickstart._MAX_VOICES
