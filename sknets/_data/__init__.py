"""Arrays in, tensors out: validation, label codec, weights, rows and where outputs go."""

from sknets._data._assembly import assemble
from sknets._data._batches import Batch, Batches
from sknets._data._features import check_features, input_dtype
from sknets._data._labels import LabelCodec, check_labels
from sknets._data._namespace import NUMPY, Namespace, as_numpy, namespace_of
from sknets._data._rows import (
    DenseRows,
    Rows,
    SparseRows,
    SubsetRows,
    as_tensor_view,
    is_memory_mapped,
    make_rows,
)
from sknets._data._weights import (
    check_class_weight,
    check_fits_dtype,
    check_sample_weight,
    combine_weights,
)

__all__ = [
    "NUMPY",
    "Batch",
    "Batches",
    "DenseRows",
    "LabelCodec",
    "Namespace",
    "Rows",
    "SparseRows",
    "SubsetRows",
    "as_numpy",
    "as_tensor_view",
    "assemble",
    "check_class_weight",
    "check_features",
    "check_fits_dtype",
    "check_labels",
    "check_sample_weight",
    "combine_weights",
    "input_dtype",
    "is_memory_mapped",
    "make_rows",
    "namespace_of",
]
