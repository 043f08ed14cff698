"""Makes official_prompt.safetensors: small random prompts, and what the official method on fairseq says with them.

    PYTHONPATH=. python tests/golden/make_official_prompt.py

Needs fairseq (made with fairseq-fixed 0.12.3.1 and torch 2.13.0) and safetensors.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.golden.make_gslm import HEADS, INNER, LAYERS, UNITS, WIDTH, dictionary_text, plain, read_text

GOLDEN = Path(__file__).with_name("official_prompt.safetensors")
COLUMNS, NUM_LABELS, NUM_ROWS = 5, 7, 12
# The labels of an intent, as upstream's data call them.
INTENTS = [["0", "3", "5"], ["0", "3", "6"], ["0", "4", "5"], ["1", "4", "6"], ["2", "3", "5"], ["1", "0", "0"]]
CASES = [(kind, linear) for kind in ("deep", "input") for linear in (False, True)]


def case_name(kind: str, linear: bool) -> str:
    return f"{kind}-{'linear' if linear else 'fixed'}"


@torch.no_grad()
def main() -> None:
    from tests.oracle.convert import official_method as official

    text = dictionary_text(seed=3)
    dictionary = read_text(text)
    settings = official.language_model_settings(WIDTH, INNER, LAYERS, HEADS)
    model = official.random_language_model(settings, dictionary, seed=4)
    tensors = {f"model/{key}": value.clone() for key, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(1, 14, (NUM_ROWS,), generator=generator).tolist()
    rows = [
        [official.START, *torch.randint(4, 4 + UNITS, (n,), generator=generator).tolist(), official.SEPARATOR]
        for n in lengths
    ]
    tensors |= {f"row/{index}": torch.tensor(row) for index, row in enumerate(rows)}
    verbalizer = {str(label): str(2 + 3 * label) for label in range(NUM_LABELS)}
    for seed, (kind, linear) in enumerate(CASES):
        name = case_name(kind, linear)
        prompt = official.random_prompt(
            kind, WIDTH, LAYERS, len(dictionary), COLUMNS, NUM_LABELS if linear else None, seed=26 + seed
        )
        tensors |= {f"{name}/prompt/{key}": value for key, value in prompt.items()}
        prompted = official.prompted(settings, dictionary, model, prompt)
        for index, logits in enumerate(official.unit_logits(prompted, rows)):
            tensors[f"{name}/logits/{index}"] = logits[-1].clone()
        tensors[f"{name}/scores"] = torch.stack([official.scores_after(prompted, row) for row in rows])
        tokens = {label: 4 + int(label) if linear else dictionary.index(unit) for label, unit in verbalizer.items()}
        sequences = [[tokens[label] for label in intent] for intent in INTENTS]
        said = [official.slow_greedy(prompted, row, 3, official.among(sequences)) for row in rows]
        tensors[f"{name}/intents"] = torch.tensor([sequences.index(each) for each in said])
        if not linear:
            free = [[*tokens, 0, 0, 0][:3] for tokens in official.generate(prompted, dictionary, rows, 3)]
            tensors[f"{name}/unrestricted"] = torch.tensor(free)
    metadata = {"settings": json.dumps(plain(settings)), "dictionary": text, "verbalizer": json.dumps(verbalizer)}
    save_file(tensors, GOLDEN, metadata=metadata)


if __name__ == "__main__":
    main()
