"""Labels to targets and back."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator

from sknets._data import LabelCodec, check_labels


class Anything(BaseEstimator):
    """An estimator that only has its labels checked."""


INDICATORS = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize(
    ("y", "kind", "n_outputs"),
    [
        (["b", "a", "b"], "binary", 1),
        ([False, True, True], "binary", 1),
        ([7, 7, 7], "binary", 1),
        ([3, 1, 2], "multiclass", 3),
        ([2.0, -1.0, 5.0], "multiclass", 3),
        (INDICATORS, "multilabel", 3),
        (INDICATORS.astype(bool), "multilabel", 3),
        (sparse.csr_array(INDICATORS), "multilabel", 3),
    ],
)
def test_encode_and_decode_are_a_pair(y, kind, n_outputs):
    checked = check_labels(Anything(), y, multilabel=True)
    codec = LabelCodec.from_labels(checked)
    assert (codec.kind, codec.n_outputs) == (kind, n_outputs)
    target = codec.encode(checked)
    assert target.dtype == (bool if kind == "multilabel" else np.int64)
    if kind == "multiclass":
        logits = 5 * np.eye(n_outputs)[target]
    else:
        logits = 10.0 * target.reshape(len(target), -1) - 5
    decoded = codec.decode(torch.from_numpy(logits))
    assert sparse.issparse(decoded) == sparse.issparse(y)
    dense = [part.toarray() if sparse.issparse(part) else part for part in (decoded, y)]
    assert_array_equal(*dense)
    best = codec.probabilities(torch.from_numpy(logits))
    assert best.shape == (len(target), len(codec.classes))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_log_probabilities_are_those_of_the_probabilities(kind):
    y = {"binary": [0, 1], "multiclass": [0, 1, 2], "multilabel": INDICATORS}[kind]
    codec = LabelCodec.from_labels(np.asarray(y))
    logits = torch.linspace(-8, 8, 5 * codec.n_outputs, dtype=torch.float64)
    logits = logits.reshape(5, codec.n_outputs)
    proba = codec.probabilities(logits.clone())
    assert_allclose(codec.log_probabilities(logits.clone()), proba.log(), rtol=1e-12)
    if kind != "multilabel":
        assert_allclose(proba.sum(1), 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits(dtype):
    far = torch.tensor([[-2000.0], [2000.0]], dtype=dtype)
    binary = LabelCodec.from_labels(np.array([0, 1]))
    assert_array_equal(binary.probabilities(far), [[1, 0], [0, 1]])
    assert_array_equal(binary.log_probabilities(far), [[0, -np.inf], [-np.inf, 0]])
    multilabel = LabelCodec.from_labels(INDICATORS)
    proba = multilabel.probabilities(far.expand(2, 3).clone())
    assert ((proba > 0) & (proba < 1)).all()
    assert torch.isfinite(multilabel.log_probabilities(far.expand(2, 3).clone())).all()


def test_a_tie_goes_to_the_first_class():
    assert LabelCodec.from_labels(np.array([4, 9])).decode(torch.zeros(1, 1)) == [4]
    assert LabelCodec.from_labels(np.array([4, 9, 5])).decode(torch.zeros(1, 3)) == [4]


def test_classes_may_be_more_than_those_seen():
    codec = LabelCodec.from_classes(["c", "a", "b"], np.array(["b", "b"]))
    assert codec.classes.tolist() == ["a", "b", "c"]
    assert codec.encode(np.array(["b", "c"])).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("known", "seen"),
    [
        (np.array([0, 1, 2]), np.array([0, 3])),
        (np.array(["a", "b"]), np.array(["b", "z"])),
        (np.array([0, 1, 2]), INDICATORS),
        (INDICATORS, np.array([0, 1, 2])),
        (INDICATORS, INDICATORS[:, :2]),
        (INDICATORS, np.c_[INDICATORS, INDICATORS]),
        (INDICATORS, sparse.csr_array(INDICATORS[:, :2])),
    ],
)
def test_check_known(known, seen):
    codec = LabelCodec.from_labels(known)
    codec.check_known(known)
    with pytest.raises(ValueError, match=r"classes not in|y must have \d column"):
        codec.check_known(seen)


def test_several_columns_only_where_they_are_taken():
    with pytest.raises(ValueError, match=r"1d array.*\(3, 3\)"):
        check_labels(Anything(), INDICATORS, multilabel=False)
    with pytest.raises(ValueError, match="got 2 columns of several classes"):
        LabelCodec.from_labels(np.array([[1, 2], [3, 1], [2, 2]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "n_classes"), [(1, 3), (99, 10), (100, 3), (5000, 10), (500, 100)])
def test_softmax_of_few_and_many_rows(n, n_classes, dtype):
    codec = LabelCodec(np.arange(n_classes), multilabel=False, sparse_output=False)
    logits = 50 * torch.randn(n, n_classes, dtype=dtype, generator=torch.Generator().manual_seed(0))
    proba = codec.probabilities(logits)
    torch.testing.assert_close(proba, torch.softmax(logits, 1))
    assert proba.is_contiguous()
