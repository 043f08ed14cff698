"""Converted official prompts against the official method on fairseq's modules, over 500 real unit sequences each.

The language models and prompts are random, the utterances, dictionaries, label sets and fixed verbalizers are those of
SpeechPrompt's own data.
"""

import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.fixtures.fairseq_import import import_or_skip

official = import_or_skip("tests.oracle.convert.official_method")

from peft import PeftModel  # noqa: E402
from pyarrow import parquet  # noqa: E402
from transformers import AutoModel  # noqa: E402

from speechprompt_hf.convert.gslm import convert_gslm  # noqa: E402
from speechprompt_hf.convert.prompt import convert_prompt  # noqa: E402
from speechprompt_hf.modeling.base_loading import load_base  # noqa: E402
from tests.fixtures.tiny_models import pad, real_rows  # noqa: E402

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
TOLERANCE = 2e-5
NUM_ROWS, BATCH = 500, 50
NUM_SLOW = 10
WIDTH, INNER, LAYERS, HEADS, COLUMNS = 64, 128, 3, 4, 5
TASKS = {"KS": ("speech_commands_v1", ("label_id",)),
         "IC": ("fluent_speech_commands", ("action_id", "object_id", "location_id"))}  # fmt: skip
NUM_LABELS = {"KS": 12, "IC": 24}


@dataclass
class Case:
    """A converted prompt, the official model that it was made of, and real utterances."""

    task: str
    linear: bool
    theirs: Any
    dictionary: Any
    folder: Any
    base: Any
    rows: list[list[int]]
    sequences: list[list[int]]
    """The tokens that upstream predicts for each class."""

    @property
    def num_labels(self) -> int:
        return len(self.sequences[0])

    def batches(self, num_rows=None):
        rows = self.rows[:num_rows]
        return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


@pytest.fixture(
    scope="module",
    params=[
        (task, quantizer, kind, linear)
        for task in TASKS
        for quantizer in ("hubert100", "cpc100")
        for kind in ("deep", "input")
        for linear in (False, True)
    ],
    ids=lambda value: "-".join([*value[:3], "linear" if value[3] else "fixed"]),
)
def case(request, shared_data, tmp_path_factory) -> Case:
    task, quantizer, kind, linear = request.param
    name, columns = TASKS[task]
    data = shared_data / "units" / name / quantizer
    if not data.is_dir():
        pytest.skip(f"no units of {name} on this machine")
    folder = tmp_path_factory.mktemp(f"{task}-{quantizer}-{kind}-{linear}")
    dictionary = official.load_dictionary(data / "dict.txt")
    table = parquet.read_table(data / "test.parquet", columns=["units", *columns])
    triples = sorted(
        {tuple(map(int, row)) for row in zip(*(table[each].to_pylist() for each in columns), strict=True)}
    )
    chosen = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))[:NUM_ROWS].tolist()
    units = table["units"].to_pylist()
    rows = [
        [official.START, *(dictionary.index(str(unit)) for unit in units[index]), official.SEPARATOR]
        for index in sorted(chosen, key=lambda index: len(units[index]))
    ]
    verbal = json.loads((data / "verbal.json").read_text())[task]

    seed = sum(map(ord, "".join(map(str, request.param))))
    settings = official.language_model_settings(WIDTH, INNER, LAYERS, HEADS)
    # With larger weights fairseq's float32 is itself farther than the tolerance from its float64.
    lm = official.random_language_model(settings, dictionary, seed, std=0.2)
    torch.save({"args": settings, "model": lm.state_dict()}, folder / "checkpoint_best.pt")
    convert_gslm(folder / "checkpoint_best.pt", folder / "lm", data / "dict.txt")
    prompt = official.random_prompt(
        kind, WIDTH, LAYERS, len(dictionary), COLUMNS, NUM_LABELS[task] if linear else None, seed
    )
    torch.save({"args": settings, "model": prompt}, folder / "prompt.pt")
    given: dict[str, Any] = {"verbalizer": data / "verbal.json", "task": task}
    if linear:
        given = {"labels": [str(label) for label in range(NUM_LABELS[task])]}
    if task == "IC":
        given["classes"] = [[str(label) for label in triple] for triple in triples]
    convert_prompt(folder / "prompt.pt", folder / "adapter", folder / "lm", **given)

    def token(label):
        return 4 + label if linear else dictionary.index(verbal[str(label)])

    sequences = [[token(label) for label in triple] for triple in triples]
    theirs = official.prompted(settings, dictionary, lm, prompt)
    return Case(task, linear, theirs, dictionary, folder / "adapter", folder / "lm", rows, sequences)


@pytest.fixture(scope="module")
def ours(case):
    model = AutoModel.from_pretrained(case.folder)
    order = [int(name) for name in model.config.class_names] if case.task == "KS" else range(len(case.sequences))
    assert list(order) == list(range(len(case.sequences)))
    return model


@pytest.fixture(scope="module")
def stock(case):
    return PeftModel.from_pretrained(load_base(case.base), case.folder).eval()


@torch.no_grad()
@pytest.mark.parametrize("side", ["right", "left"])
def test_logits(case, ours, stock, side, record_property):
    differences, largest = {"ours": 0.0, "stock PEFT": 0.0}, 0.0
    for rows in case.batches():
        expected = official.unit_logits(case.theirs, rows)
        ids, mask = pad(rows, side)
        found = {
            "ours": ours.lm(ids, attention_mask=mask, prompt=ours.prompt.states(ours.lm)).logits,
            "stock PEFT": stock(input_ids=ids, attention_mask=mask).logits[:, -ids.shape[1] :],
        }
        for name, logits in found.items():
            for a, b in zip(real_rows(logits, mask), expected, strict=True):
                differences[name] = max(differences[name], float((a - b).abs().max()))
                largest = max(largest, float(b.abs().max()))
    for name, difference in differences.items():
        record_property(name, difference)
        assert difference < TOLERANCE
    record_property("largest logit", largest)
    assert largest > 3


@torch.no_grad()
def test_scores_of_the_first_label(case, ours, record_property):
    """Those of upstream's verbalizer: class scores with a linear one, the units' logits with a fixed one."""
    difference = 0.0
    for rows in case.batches():
        ids, mask = pad(rows, "left")
        hidden_states = ours.lm.read_utterances(
            ids, mask, ours.prompt.states(ours.lm), at_separator=True
        ).hidden_states
        scores = ours.verbalizer.scores_at(ours.lm.lm_head(hidden_states)[:, 0], 0)
        tokens = list(dict.fromkeys(sequence[0] for sequence in case.sequences))
        for found, row in zip(scores, rows, strict=True):
            expected = official.scores_after(case.theirs, row)[tokens]
            difference = max(difference, float((found - expected).abs().max()))
    record_property("largest difference", difference)
    assert difference < TOLERANCE


@torch.no_grad()
def test_the_same_labels(case, ours, record_property):
    expected, found = [], []
    for rows in case.batches():
        expected += official.greedy_batch(case.theirs, rows, case.num_labels, official.among(case.sequences))
        ids, mask = pad(rows, "left")
        found += [case.sequences[index] for index in ours.decode(ids, mask, "greedy").tolist()]
        if case.num_labels == 1:
            exact = ours(input_ids=ids, attention_mask=mask).logits.argmax(-1).tolist()
            assert [case.sequences[index] for index in exact] == found[-len(rows) :]
    assert found == expected
    different = len({tuple(sequence) for sequence in found})
    record_property("different answers", different)
    assert different > 2


@torch.no_grad()
def test_sources_forced_token_by_token_change_nothing(case, ours):
    """The official loop word for word, which the other tests shorten."""
    rows = case.rows[:: NUM_ROWS // NUM_SLOW]
    slow = [official.slow_greedy(case.theirs, row, case.num_labels, official.among(case.sequences)) for row in rows]
    ids, mask = pad(rows)
    assert [case.sequences[index] for index in ours.decode(ids, mask, "greedy").tolist()] == slow


@torch.no_grad()
def test_exact_scores_of_label_sequences(case, ours):
    """Teacher forcing: the official model's scores after the source and the class's earlier labels."""
    if case.num_labels == 1:
        pytest.skip("one label an utterance")
    for row in case.rows[:: NUM_ROWS // NUM_SLOW]:
        found = ours(input_ids=torch.tensor([row])).logits[0]
        expected = torch.zeros(len(case.sequences))
        for place in range(case.num_labels):
            tokens = sorted({sequence[place] for sequence in case.sequences})
            for index, sequence in enumerate(case.sequences):
                scores = official.scores_after(case.theirs, [*row, *sequence[:place]])[tokens].double()
                expected[index] += scores.log_softmax(-1)[tokens.index(sequence[place])]
        assert (found - expected).abs().max() < 1e-4


@torch.no_grad()
def test_unrestricted_decoding(case, ours, stock, record_property):
    """Upstream's own way of decoding, which may say anything: where it says a label sequence, it is ours."""
    num_known = 0
    for rows in case.batches(200):
        ids, mask = pad(rows, "left")
        classes = ours.decode(ids, mask, "greedy").tolist()
        if case.linear:
            said = [official.linear_loop(case.theirs, row, case.num_labels) for row in rows]
        else:
            said = official.generate(case.theirs, case.dictionary, rows, case.num_labels)
            generated = stock.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=case.num_labels,
                do_sample=False,
                suppress_tokens=[official.PAD],
            )
            for tokens, row in zip(said, generated[:, ids.shape[1] :].tolist(), strict=True):
                # Behind the end fairseq stops, and generate fills up.
                assert row[: len(tokens)] == tokens
        for tokens, index in zip(said, classes, strict=True):
            if tokens in case.sequences:
                num_known += 1
                assert case.sequences[index] == tokens
    record_property("utterances with a label sequence of 200", num_known)
    if case.linear and not num_known:
        pytest.skip("upstream's loop says no label sequence on these weights: nothing was compared")
