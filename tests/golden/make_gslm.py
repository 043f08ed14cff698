"""Makes gslm.safetensors: a small random language model of fairseq, and what fairseq says after units with it.

    PYTHONPATH=. python tests/golden/make_gslm.py

Needs fairseq (made with fairseq-fixed 0.12.3.1 and torch 2.13.0) and safetensors.
"""

import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

GOLDEN = Path(__file__).with_name("gslm.safetensors")
# No two sizes are equal, so that none is mistaken for another.
UNITS, WIDTH, INNER, LAYERS, HEADS = 28, 24, 40, 3, 4
LENGTHS = (9, 1, 17)


def dictionary_text(seed: int = 0) -> str:
    """A `dict.txt` in no numeric order."""
    order = torch.randperm(UNITS, generator=torch.Generator().manual_seed(seed)).tolist()
    return "".join(f"{unit} {1000 - place}\n" for place, unit in enumerate(order))


def read_text(text: str):
    """fairseq's dictionary of a `dict.txt`."""
    from tests.oracle.convert.official_method import load_dictionary

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dict.txt"
        path.write_text(text)
        return load_dictionary(path)


def plain(settings) -> dict:
    """Those settings that JSON can hold."""
    return {key: value for key, value in vars(settings).items() if isinstance(value, str | int | float | None)}


@torch.no_grad()
def main() -> None:
    from tests.oracle.convert import official_method as official

    text = dictionary_text()
    dictionary = read_text(text)
    settings = official.language_model_settings(WIDTH, INNER, LAYERS, HEADS)
    model = official.random_language_model(settings, dictionary, seed=1)
    tensors = {f"model/{key}": value.clone() for key, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(2)
    rows = [[official.START, *torch.randint(4, 4 + UNITS, (n,), generator=generator).tolist()] for n in LENGTHS]
    longest = max(map(len, rows))
    batch = torch.tensor([[*row, *[official.PAD] * (longest - len(row))] for row in rows])
    padded = model(batch)[0]
    for index, row in enumerate(rows):
        tensors[f"row/{index}"] = torch.tensor(row)
        tensors[f"alone/{index}"] = model(torch.tensor([row]))[0][0]
        tensors[f"padded/{index}"] = padded[index, : len(row)].clone()
        state: dict = {}
        steps = [
            model(torch.tensor([row[: length + 1]]), incremental_state=state)[0][0, -1] for length in range(len(row))
        ]
        tensors[f"steps/{index}"] = torch.stack(steps)
    save_file(tensors, GOLDEN, metadata={"settings": json.dumps(plain(settings)), "dictionary": text})


if __name__ == "__main__":
    main()
