"""Units of batches of real recordings equal those of each recording alone; naive padding fails the same test."""

import io

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
import torch
from sklearn.cluster import MiniBatchKMeans
from transformers import HubertConfig, HubertModel

from speechprompt_hf.core.audio_io import resample
from speechprompt_hf.processors import UnitEncoder
from speechprompt_hf.processors.conv_stack import BLOCK_FRAMES
from tests.fixtures.effort import rounds
from tests.fixtures.speech_encoders import wave_encoder

NUM_CLIPS = 200
TIE = 1e-6
SETS = ("fsdd", "lt_speech_commands", "emodb", "coffee_orders", "kathleen_en")


@pytest.fixture(scope="module")
def clips(shared_data):
    """Pieces of random length, 25 ms to 3 s, of recordings of five corpora."""
    generator = np.random.default_rng(0)
    pieces = []
    for name in SETS:
        column = pyarrow.parquet.read_table(shared_data / name / "test.parquet", columns=["audio"])["audio"]
        for index in generator.choice(len(column), NUM_CLIPS // len(SETS), replace=False):
            samples, rate = soundfile.read(io.BytesIO(column[int(index)].as_py()), dtype="float32")
            samples = resample(samples, rate, 16000)
            length = int(generator.integers(400, min(len(samples), 48000) + 1))
            start = int(generator.integers(0, len(samples) - length + 1))
            pieces.append(samples[start : start + length])
    assert len(pieces) == NUM_CLIPS
    return pieces


def fitted(model, layer, clips, **options):
    """A unit encoder with 100 clusters of the encoder's own features, and the k-means behind it."""
    probe = UnitEncoder.from_model(
        model, np.zeros((1, model.config.hidden_size), np.float32), layer=layer, normalization="none"
    )
    features = torch.cat(probe.features(clips[:60])).numpy()
    kmeans = MiniBatchKMeans(100, n_init=1, max_iter=20, random_state=0).fit(features)
    return UnitEncoder.from_model(model, kmeans.cluster_centers_, layer=layer, normalization="none", **options), kmeans


def differing(encoder, batched, alone, clips):
    """Frames that differ although the two best centroids are further apart than `TIE`; and all ties."""
    wrong = ties = 0
    for one, other, clip in zip(batched, alone, clips, strict=True):
        assert one.shape == other.shape
        margins = encoder.quantizer.predict_with_margins(encoder.features([clip])[0])[1].numpy()
        ties += int((margins <= TIE).sum())
        wrong += int(((one != other) & (margins > TIE)).sum())
    return wrong, ties


def naive_units(model, kmeans, layer, clips, *, with_mask):
    """What transformers gives for a batch padded with zeros."""
    lengths = [len(clip) for clip in clips]
    values = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(clip) for clip in clips], batch_first=True)
    mask = (torch.arange(values.shape[1])[None] < torch.tensor(lengths)[:, None]).long()
    with torch.no_grad():
        output = model(values, attention_mask=mask if with_mask else None, output_hidden_states=True)
    return [
        kmeans.predict(states[: (length - 400) // 320 + 1].numpy())
        for states, length in zip(output.hidden_states[layer], lengths, strict=True)
    ]


@pytest.mark.parametrize(
    "kind",
    ["hubert_base", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("hubert_large", "wavlm_base"))],
)
def test_batch_units_equal_single_units_on_200_real_clips(kind, clips, capsys):
    encoder, _ = fitted(wave_encoder(kind), 2, clips)
    encoder.batch_samples = 640_000
    batched = encoder.encode_frames(clips)
    alone = [encoder.encode_frames([clip])[0] for clip in clips]
    wrong, ties = differing(encoder, batched, alone, clips)
    with capsys.disabled():
        print(f"\n{kind}: {wrong} of {sum(map(len, alone))} frames differ, {ties} ties")
    assert wrong == 0
    assert len(np.unique(np.concatenate(alone))) > 50


def test_units_equal_transformers_and_scikit_learn_one_file_at_a_time(clips):
    model = wave_encoder("hubert_base")
    encoder, kmeans = fitted(model, 2, clips)
    batched = encoder.encode_frames(clips)
    reference = [naive_units(model, kmeans, 2, [clip], with_mask=False)[0] for clip in clips]
    wrong, _ = differing(encoder, batched, reference, clips)
    assert wrong == 0


@pytest.mark.parametrize("with_mask", [False, True])
def test_naive_zero_padding_fails_the_same_test(with_mask, clips):
    model = wave_encoder("hubert_base")
    encoder, kmeans = fitted(model, 2, clips)
    sample = clips[:40]
    naive = naive_units(model, kmeans, 2, sample, with_mask=with_mask)
    alone = [encoder.encode_frames([clip])[0] for clip in sample]
    wrong, _ = differing(encoder, naive, alone, sample)
    assert wrong > 0.1 * sum(map(len, alone))


def test_a_mask_without_our_group_norm_is_enough_for_layer_norm_encoders_only(clips):
    model = wave_encoder("hubert_large")
    encoder, kmeans = fitted(model, 2, clips)
    sample = clips[:40]
    alone = [encoder.encode_frames([clip])[0] for clip in sample]
    wrong, _ = differing(encoder, naive_units(model, kmeans, 2, sample, with_mask=True), alone, sample)
    assert wrong == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_full_size_hubert_base_on_real_clips(clips, capsys, monkeypatch):
    clips = clips[:: rounds(4, 1)]  # of every corpus
    torch.manual_seed(0)
    model = HubertModel(HubertConfig()).eval()
    encoder, _ = fitted(model, 6, clips)
    batched = encoder.encode_frames(clips)
    # Alone, and with other blocks in the convolutions.
    monkeypatch.setitem(BLOCK_FRAMES, "cpu", 60)
    alone = [encoder.encode_frames([clip])[0] for clip in clips]
    wrong, ties = differing(encoder, batched, alone, clips)
    with capsys.disabled():
        print(f"\nHuBERT base, layer 6: {wrong} of {sum(map(len, alone))} frames differ, {ties} ties")
    assert wrong == 0
