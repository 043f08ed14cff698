"""`speechprompt convert`: published checkpoints of fairseq and scikit-learn, without executing them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..console import print_json, print_line, working
from ..options import JsonOption
from . import convert_parts, convert_units
from .convert_work import MirrorOption, server_of

__all__ = ["app"]

_HELP = (
    "Convert published checkpoints of fairseq and scikit-learn, without executing anything in them.\n\n"
    "These files are pickles, which run code when they are loaded in the ordinary way. Here a file that names "
    "anything but tensors, arrays, plain data and settings is refused.\n\n"
    "SOURCE is a file, an archive (.tgz, .tar, .zip) that holds it, or a name of --list, which is downloaded."
)

_LIST = "the names are shown by: speechprompt convert --list"


class _Conversions(TyperGroup):
    """Knows what is meant by `convert list`."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The sub-command of a name."""
        if cmd_name == "list":
            raise typer.BadParameter(_LIST, ctx=ctx, param_hint="list")
        return super().get_command(ctx, cmd_name)


class _Conversion(TyperCommand):
    """Knows what is meant by `convert gslm --list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options and arguments of a sub-command."""
        if "--list" in args:
            raise typer.BadParameter(_LIST, ctx=ctx, param_hint="--list")
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Conversions, help=_HELP, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
)

_COMMANDS: dict[str, Callable[..., None]] = {
    "encoder": convert_parts.encoder,
    "quantizer": convert_parts.quantizer,
    "processor": convert_parts.processor,
    "gslm": convert_units.gslm,
    "causal-lm": convert_units.causal_lm,
    "base": convert_units.base,
    "unit-mbart": convert_units.unit_mbart,
    "hifigan": convert_units.hifigan,
    "prompt": convert_units.prompt,
}
for _name, _command in _COMMANDS.items():
    _paragraphs = [" ".join(part.split()) for part in (_command.__doc__ or "").split("\n\n")]
    app.command(_name, cls=_Conversion, help="\n\n".join(_paragraphs))(_command)

_TITLES = {
    "encoder": "encoder: what listens",
    "quantizer": "quantizer: which units it hears",
    "gslm": "gslm: language models over units",
    "unit-mbart": "unit-mbart: an encoder-decoder over units",
    "hifigan": "hifigan: units to sound",
}


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    show_list: Annotated[
        bool, typer.Option("--list", help="Show the names that SOURCE may have, and what belongs together.")
    ] = False,
    mirror: MirrorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the list, or leave it to the sub-command."""
    if context.invoked_subcommand is not None:
        if show_list:
            raise typer.BadParameter("--list stands alone", param_hint="--list")
        for given, option in ((mirror, "--mirror"), (as_json, "--json")):
            if given:
                raise typer.BadParameter(
                    f"it stands after the sub-command: speechprompt convert {context.invoked_subcommand} … {option}",
                    param_hint=option,
                )
        return
    if not show_list:
        raise typer.BadParameter("name what SOURCE is, or give --list")
    with working():
        from speechprompt_hf.convert.catalogue import NOT_LISTED, entries_of, entry_record

        records = [entry_record(entry, server_of(mirror)) for entry in entries_of()]
    if as_json:
        print_json({"entries": records, "not_listed": NOT_LISTED})
        return
    for kind, title in _TITLES.items():
        _print_kind([record for record in records if record["kind"] == kind], title)
    for line in _wrapped(
        f"{NOT_LISTED} Units of one name belong together. Addresses and whole digests: --list --json."
    ):
        print_line(line)


def _print_kind(records: list[dict[str, Any]], title: str) -> None:
    rows = [["", "layer", "units", "SHA-256", "licence"], *map(_cells, records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print_line(title)
    for index, row in enumerate(rows):
        print_line(("  " + "  ".join(map(str.ljust, row, widths))).rstrip())
        record = records[index - 1] if index else {}
        if record.get("reason"):
            for line in _wrapped(f"not converted: {record['reason']}", indent="    "):
                print_line(line)
    print_line()


def _cells(record: dict[str, Any]) -> list[str]:
    digest = record["sha256"][:12] if record["sha256"] else "not pinned"
    sizes = [str(record[name] or "-") for name in ("layer", "num_units")]
    return [record["name"], *sizes, digest, (record["licence"] or "not stated").replace("mit", "MIT")]


def _wrapped(text: str, indent: str = "") -> list[str]:
    import textwrap

    return textwrap.wrap(text, 79, initial_indent=indent, subsequent_indent=indent)
