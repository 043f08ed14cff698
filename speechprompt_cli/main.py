"""Where the console script starts: the table of commands and the exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import typer

from .commands import (
    bench,
    convert,
    demo,
    distill,
    doctor,
    evaluate,
    explain,
    generate,
    predict,
    pretrain,
    push,
    quantize,
    quickstart,
    serve,
    train,
    train_vocoder,
    units,
)
from .console import print_error

__all__ = ["COMMANDS", "app", "main"]

FAILED, USAGE, INTERRUPTED = 1, 2, 130
_WRONG_PATH = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)

_START, _USE, _SHARE, _MAKE = "Start here", "Train and use adapters", "Share", "Make your own backbone"
COMMANDS: dict[str, tuple[str, Callable[..., Any] | typer.Typer]] = {
    "quickstart": (_START, quickstart.run),
    "doctor": (_START, doctor.run),
    "train": (_USE, train.run),
    "evaluate": (_USE, evaluate.run),
    "predict": (_USE, predict.run),
    "demo": (_USE, demo.run),
    "explain": (_USE, explain.run),
    "serve": (_USE, serve.run),
    "generate": (_USE, generate.run),
    "units": (_USE, units.run),
    "bench": (_USE, bench.run),
    "push": (_SHARE, push.run),
    "push-base": (_SHARE, push.run_base),
    "distill": (_MAKE, distill.run),
    "quantize": (_MAKE, quantize.run),
    "pretrain": (_MAKE, pretrain.run),
    "train-vocoder": (_MAKE, train_vocoder.run),
    "convert": (_MAKE, convert.app),
}

app = typer.Typer(
    name="speechprompt",
    help="Train small prompts that let one frozen speech language model solve your classification task.\n\n"
    "New here? Run [bold]speechprompt quickstart[/bold]. It needs no data and takes about three minutes.",
    epilog="Results go to standard output, progress to standard error. "
    "Exit code 2: something given was wrong; 1: something failed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _help_of(command: Callable[..., Any]) -> str:
    """The docstring with one line a paragraph: the terminal's width decides where lines end."""
    return "\n\n".join(" ".join(part.split()) for part in (command.__doc__ or "").split("\n\n"))


for _name, (_panel, _command) in COMMANDS.items():
    if isinstance(_command, typer.Typer):
        app.add_typer(_command, name=_name, rich_help_panel=_panel)
    else:
        app.command(_name, rich_help_panel=_panel, help=_help_of(_command))(_command)


@app.callback(invoke_without_command=True)
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(version_of("speechprompt-hf"))
        raise typer.Exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments (`Sequence[str]`, *optional*): the command line without the program's name; `sys.argv` by default.

    Returns:
        `int`: 0 done, 1 failed, 2 the user gave something wrong, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=given, prog_name="speechprompt")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else FAILED
    except KeyboardInterrupt:
        print_error("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`speechprompt units ... | head`); closing standard error keeps Python from reporting it.
        sys.stderr.close()
        return FAILED
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        return _report(error)
    return 0


def _report(error: Exception) -> int:
    errors: Any = sys.modules.get("speechprompt_hf.core.errors")
    if errors is not None and isinstance(error, errors.SpeechPromptError):
        print_error(Exception.__str__(error), hint=error.hint)
        return USAGE if error.is_mistake else FAILED
    if isinstance(error, _WRONG_PATH) and error.filename is not None:
        print_error(f"{error.filename}: {error.strerror}", hint="check the path and your rights to it")
        return USAGE
    print_error(f"{type(error).__name__}: {error}", hint="speechprompt --debug COMMAND ... shows where")
    return FAILED
