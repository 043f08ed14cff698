"""The nearest example by the words of its units: what needs no training and no language model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from .episodes import Episode

__all__ = ["answer_by_nearest", "unit_vectors"]


def unit_vectors(units: Sequence[Sequence[int]], known_rows: Sequence[int]) -> csr_matrix:
    """TF-IDF of 1- to 3-grams of units, of length one.

    Sublinear term frequency; how many rows have an n-gram is counted over the known rows, and one that none has counts
    as the rarest.

    Args:
        units (`Sequence[Sequence[int]]` of length R): units of all rows.
        known_rows (`Sequence[int]`): rows that are counted: those of warm-up.

    Returns:
        `csr_matrix` of shape `(R, F)`, float64.
    """
    counter = CountVectorizer(lowercase=False, tokenizer=str.split, token_pattern=None, ngram_range=(1, 3))
    vectors = counter.fit_transform([" ".join(map(str, row)) for row in units]).astype(np.float64)
    rows_with = np.asarray((vectors[list(known_rows)] > 0).sum(axis=0)).ravel()
    vectors.data = 1 + np.log(vectors.data)
    vectors = vectors.multiply(1 + np.log((1 + len(known_rows)) / (1 + rows_with))).tocsr()
    lengths = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)))
    return csr_matrix(vectors.multiply(1 / np.maximum(lengths, 1e-12)))


def answer_by_nearest(episodes: Sequence[Episode], vectors: csr_matrix) -> tuple[int, ...]:
    """What the nearest example is said to be, by cosine; of equally near ones the first told.

    Args:
        episodes (`Sequence[Episode]` of length E): what is told and asked.
        vectors (`csr_matrix` of shape `(R, F)`): of all rows, of length one.

    Returns:
        `tuple[int, ...]` of length E: classes, from 0 to N - 1.
    """
    answers = []
    for episode in episodes:
        likeness = (vectors[list(episode.examples)] @ vectors[[episode.query]].T).toarray().ravel()
        answers.append(episode.told[int(likeness.argmax())])
    return tuple(answers)
