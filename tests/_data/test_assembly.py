"""Parts of a result are laid one after another."""

import numpy as np
import pytest
import torch
from scipy import sparse

from sknets._data import assemble


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, sparse.csr_matrix])
def test_parts_make_the_whole(kind):
    whole = np.arange(12.0, dtype=np.float32).reshape(6, 2)
    parts = [(start, stop, kind(whole[start:stop])) for start, stop in ((0, 3), (3, 5), (5, 6))]
    result = assemble(iter(parts), 6)
    assert type(result) is type(parts[0][2])
    assert result.dtype == parts[0][2].dtype
    dense = result.toarray() if sparse.issparse(result) else np.asarray(result)
    np.testing.assert_array_equal(dense, whole)


def test_one_part_is_not_copied():
    whole = np.arange(3)
    assert assemble([(0, 3, whole)], 3) is whole


def test_labels_of_any_dtype():
    result = assemble([(0, 2, np.array(["no", "yes"])), (2, 3, np.array(["yes"]))], 3)
    assert result.tolist() == ["no", "yes", "yes"]
