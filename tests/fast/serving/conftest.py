"""Adapters of both kinds over one tiny base with its processor, and recordings."""

import asyncio

import pytest
import soundfile

from speechprompt_hf.modeling import SpeechPromptForAudioClassification, SpeechPromptForSequenceGeneration
from speechprompt_hf.processors import build_output_tokenizer
from speechprompt_hf.serving import ServingEngine
from tests.fixtures.speech_encoders import unit_processor, waveforms
from tests.fixtures.tiny_models import randomize, tiny_lm

CLASSIFIERS = {
    "words": (["no", "yes"], {}),
    "moods": (["sad", "glad", "calm"], {"prompt": "input", "num_virtual_tokens": 3, "readout": "pooled"}),
    "orders": (["on, light", "on, heat", "off, light"], {"label_sequences": [[0, 0], [0, 1], [1, 0]]}),
}
NUM_UNITS = 20


@pytest.fixture(scope="session")
def served_adapters(tmp_path_factory):
    """Name → folder: three classifiers, one that says texts, and one on another base called stranger."""
    root = tmp_path_factory.mktemp("served")
    processor = unit_processor(num_units=NUM_UNITS)
    bases = []
    for seed in (0, 5):
        lm = tiny_lm(
            vocab_size=NUM_UNITS + 4, max_position_embeddings=60, fingerprint=processor.fingerprint, seed=seed
        )
        lm.save_pretrained(root / f"base{seed}")
        processor.save_pretrained(root / f"base{seed}")
        bases.append(str(root / f"base{seed}"))
    adapters = {}
    for seed, (name, (labels, options)) in enumerate(CLASSIFIERS.items()):
        model = SpeechPromptForAudioClassification.from_base(bases[0], labels, seed=seed, **options)
        randomize(model.verbalizer, seed=seed, std=0.05)
        adapters[name] = (model, bases[0])
    tokenizer = build_output_tokenizer(["a b c", "b d"], "words")
    texts = SpeechPromptForSequenceGeneration.from_base(
        bases[0], tokenizer, num_virtual_tokens=3, max_output_tokens=6, separator_init="normal", seed=2
    )
    randomize(texts.verbalizer, seed=4, std=2.0)
    adapters["texts"] = (texts, bases[0])
    stranger = SpeechPromptForAudioClassification.from_base(bases[1], ["a", "b"], seed=9)
    adapters["stranger"] = (stranger, bases[1])
    for name, (model, base) in adapters.items():
        model.save_pretrained(root / "adapters" / name)
        processor.save_pretrained(root / "adapters" / name, base_source=base)
    return {name: root / "adapters" / name for name in adapters}


@pytest.fixture(scope="session")
def served_recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    paths = []
    for index, wave in enumerate(waveforms([9000, 14000, 6000, 14000, 11000, 7000])):
        paths.append(folder / f"{index}.flac")
        soundfile.write(paths[-1], wave, 16000)
    return paths


@pytest.fixture
def engine(served_adapters):
    return ServingEngine.from_adapters({name: served_adapters[name] for name in (*CLASSIFIERS, "texts")})


@pytest.fixture
def ask_all():
    """Send requests to an application, all at once; without a network."""
    httpx2 = pytest.importorskip("httpx2")

    def ask(application, requests):
        async def run():
            transport = httpx2.ASGITransport(application)
            async with httpx2.AsyncClient(transport=transport, base_url="http://service", timeout=30) as client:
                return await asyncio.gather(*(client.request(method, path, **rest) for method, path, rest in requests))

        return asyncio.run(run())

    return ask
