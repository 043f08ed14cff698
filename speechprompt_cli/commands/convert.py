"""`speechprompt convert`: checkpoints of fairseq and scikit-learn, without executing them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..console import print_json, print_line, working
from ..options import JsonOption


def run(
    kind: Annotated[
        Literal["quantizer", "gslm"],
        typer.Argument(
            help="What SOURCE is: k-means of scikit-learn, saved by joblib (km.bin), or a unit language model of "
            "fairseq.",
            show_default=False,
        ),
    ],
    source: Annotated[Path, typer.Argument(help="The file.", show_default=False)],
    destination: Annotated[
        Path,
        typer.Argument(help="The folder of the result; for gslm a new one.", file_okay=False, show_default=False),
    ],
    dictionary: Annotated[
        Path | None,
        typer.Option(
            "--dict", help="gslm only, and needed: fairseq's dict.txt, the order of the units.", show_default=False
        ),
    ] = None,
    dtype: Annotated[
        Literal["float32", "float16"] | None,
        typer.Option(help="gslm only: precision of the weights; float32 by default.", show_default=False),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="quantizer only: replace the quantizer in the folder.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Convert a checkpoint of fairseq or scikit-learn, without executing anything in it.

    These files are pickles, which run code when they are loaded in the ordinary way. Here a file that names anything
    but tensors, arrays, plain data and settings is refused.
    """
    if kind == "gslm" and dictionary is None:
        raise typer.BadParameter("gslm needs --dict, the dict.txt beside the checkpoint")
    if kind == "gslm" and overwrite:
        raise typer.BadParameter("gslm writes a new folder and replaces none", param_hint="--overwrite")
    if kind == "quantizer" and (dictionary is not None or dtype is not None):
        raise typer.BadParameter("a quantizer has neither --dict nor --dtype")
    with working():
        result = _convert(kind, source, destination, dictionary, dtype, overwrite=overwrite)
    if as_json:
        print_json(result)
    elif kind == "quantizer":
        print_line(f"{result['output']}\t{result['units']} units\t{result['features']} features")
    else:
        print_line(f"{result['output']}\t{result['units']} units\t{result['parameters']} parameters")


def _convert(
    kind: str, source: Path, destination: Path, dictionary: Path | None, dtype: Any, *, overwrite: bool
) -> dict[str, Any]:
    if kind == "quantizer" or dictionary is None:
        from speechprompt_hf.convert.quantizer import convert_quantizer

        return convert_quantizer(source, destination, overwrite=overwrite)
    from speechprompt_hf.convert.gslm import convert_gslm

    return convert_gslm(source, destination, dictionary, dtype=dtype or "float32")
