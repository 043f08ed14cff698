"""What a classifier has to beat: the majority class, and classical classifiers on the same inputs."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ..core.audio_io import load_waveform
from ..core.errors import DatasetError
from ..data.collators import UnitCollator

__all__ = [
    "BASELINES",
    "BaselineResult",
    "constant_baseline",
    "encoder_mean_baseline",
    "hidden_state_baseline",
    "majority_baseline",
    "tfidf_baseline",
]


@dataclass(frozen=True)
class BaselineResult:
    """A baseline's predictions.

    Attributes:
        predicted (`tuple[str, ...]` of length R): predicted class names of the test rows.
        accuracy (`float`): share of right ones.
        num_parameters (`int`): numbers that were fitted.
        seconds (`float`): time of fitting and predicting.
        scores (`tuple[float, ...]` of length R, *optional*): with two classes, how much a row looks like the second
            one by name; `None` for more classes, and where the baseline gives none.
        label (`str`, *optional*): of a baseline that says one class always.
        counted_on (`str`, *optional*): `"training rows"` or `"measured rows"`: where that class is the most frequent.
    """

    predicted: tuple[str, ...]
    accuracy: float
    num_parameters: int
    seconds: float
    scores: tuple[float, ...] | None = None
    label: str | None = None
    counted_on: Literal["training rows", "measured rows"] | None = None


def constant_baseline(
    label: str, test: Dataset, counted_on: Literal["training rows", "measured rows"] = "training rows"
) -> BaselineResult:
    """One label for every row.

    Args:
        label (`str`): what is said of each.
        test (`Dataset`): rows with `label`.
        counted_on (`str`, defaults to `"training rows"`): the rows of which it is the most frequent label.
    """
    result = _result([label] * len(test), test, 0, time.perf_counter())
    return replace(result, label=label, counted_on=counted_on)


def majority_baseline(train: Dataset, test: Dataset) -> BaselineResult:
    """The most frequent training label for every row; of equally frequent ones the first by name.

    Args:
        train (`Dataset`): rows with `label`.
        test (`Dataset`): rows with `label`.
    """
    counts = Counter(train["label"])
    return constant_baseline(min(counts, key=lambda name: (-counts[name], name)), test)


def tfidf_baseline(train: Dataset, test: Dataset) -> BaselineResult:
    """TF-IDF of 1- to 3-grams of units with a linear support vector machine.

    Sublinear term frequency, n-grams of at least two training rows (of one, where there are no others), C=1.

    Args:
        train (`Dataset`): rows with `units` and `label`.
        test (`Dataset`): rows with `units` and `label`.
    """
    start = time.perf_counter()
    try:
        vectorizer, features = _fit_tfidf(train["units"], min_rows=2)
    except ValueError:  # no n-gram occurs twice
        vectorizer, features = _fit_tfidf(train["units"], min_rows=1)
    classifier = LinearSVC(C=1.0, random_state=0)
    _fit_quietly(classifier, features, list(train["label"]))
    test_features = vectorizer.transform(_texts(test["units"]))
    size = classifier.coef_.size + classifier.intercept_.size
    return _result(classifier.predict(test_features), test, size, start, _scores(classifier, test_features))


def _texts(rows: Sequence[Sequence[int]]) -> list[str]:
    return [" ".join(map(str, units)) for units in rows]


def _fit_tfidf(rows: Sequence[Sequence[int]], min_rows: int) -> tuple[TfidfVectorizer, Any]:
    vectorizer = TfidfVectorizer(
        lowercase=False,
        tokenizer=str.split,
        token_pattern=None,
        ngram_range=(1, 3),
        sublinear_tf=True,
        min_df=min_rows,
    )
    return vectorizer, vectorizer.fit_transform(_texts(rows))


def hidden_state_baseline(train: Dataset, test: Dataset, *, model: Any, vocabulary: Any) -> BaselineResult:
    """Logistic regression on the language model's last hidden states, their mean over an utterance.

    Of an encoder-decoder model these are the decoder's, which is told the utterance again.

    Args:
        train (`Dataset`): rows with `units` and `label`.
        test (`Dataset`): rows with `units` and `label`.
        model (`UnitLanguageModel`): the frozen language model, of any architecture.
        vocabulary (`UnitVocabulary`): units → token ids.
    """
    start = time.perf_counter()
    collator = UnitCollator(vocabulary, model.max_utterance_tokens)
    train_features = _mean_hidden_states(train["units"], model, collator)
    test_features = _mean_hidden_states(test["units"], model, collator)
    return _logistic_regression(train_features, train, test_features, test, start)


@torch.no_grad()
def _mean_hidden_states(
    rows: Sequence[Sequence[int]], model: Any, collator: UnitCollator, batch_size: int = 32
) -> NDArray[np.float32]:
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    was_training = model.training
    model.eval()
    means: dict[int, NDArray[np.float32]] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = collator([{"units": rows[row]} for row in chosen])
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        read = model.read_utterances(batch["input_ids"], batch["attention_mask"], None, at_separator=False)
        mask = batch["attention_mask"].unsqueeze(-1)
        mean = ((read.hidden_states.float() * mask).sum(1) / mask.sum(1)).cpu().numpy()
        means |= dict(zip(chosen, mean, strict=True))
    model.train(was_training)
    return np.stack([means[row] for row in range(len(rows))])


def encoder_mean_baseline(train: Dataset, test: Dataset, *, processor: Any) -> BaselineResult:
    """Logistic regression on the mean over time of the encoder's features: what one would try without units.

    Args:
        train (`Dataset`): rows with `audio` and `label`.
        test (`Dataset`): rows with `audio` and `label`.
        processor (`SpeechUnitProcessor`): holds the encoder.

    Raises:
        DatasetError: the rows hold units, not recordings.
        AudioError: a recording cannot be used; leave those out first.
    """
    if "audio" not in train.column_names:
        raise DatasetError("the rows hold units, not recordings", hint="this baseline needs audio")
    start = time.perf_counter()
    train_features = _mean_features(train, processor)
    test_features = _mean_features(test, processor)
    return _logistic_regression(train_features, train, test_features, test, start)


def _mean_features(rows: Dataset, processor: Any) -> NDArray[np.float32]:
    rate = processor.feature_extractor.sampling_rate
    means = []
    for item, audio in zip(rows["item"], rows["audio"], strict=True):
        wave = load_waveform(audio, target_rate=rate, name=item)
        (features,) = processor.unit_encoder.features(processor.feature_extractor.waveforms([wave], rate))
        means.append(features.mean(0).cpu().numpy())
    return np.stack(means)


def _logistic_regression(
    train_features: NDArray[np.float32],
    train: Dataset,
    test_features: NDArray[np.float32],
    test: Dataset,
    start: float,
) -> BaselineResult:
    classifier = LogisticRegression(C=1.0, max_iter=1000)
    pipeline = make_pipeline(StandardScaler(), classifier)
    _fit_quietly(pipeline, train_features, list(train["label"]))
    size = classifier.coef_.size + classifier.intercept_.size
    return _result(pipeline.predict(test_features), test, size, start, _scores(pipeline, test_features))


def _fit_quietly(classifier: Any, features: Any, labels: Sequence[str]) -> None:
    with warnings.catch_warnings():
        # A solver that stops at its limit is close enough for a baseline.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(features, labels)


def _scores(classifier: Any, features: Any) -> tuple[float, ...] | None:
    return tuple(classifier.decision_function(features).tolist()) if len(classifier.classes_) == 2 else None


def _result(
    predicted: Any, test: Dataset, num_parameters: int, start: float, scores: tuple[float, ...] | None = None
) -> BaselineResult:
    names = tuple(str(label) for label in predicted)
    right = [name == label for name, label in zip(names, test["label"], strict=True)]
    return BaselineResult(names, float(np.mean(right)), int(num_parameters), time.perf_counter() - start, scores)


BASELINES: dict[str, Callable[[Dataset, Dataset], BaselineResult]] = {
    "majority": majority_baseline,
    "tfidf": tfidf_baseline,
}
"""The baselines of every report, by their name in it."""
