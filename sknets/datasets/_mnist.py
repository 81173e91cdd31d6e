"""MNIST, read and downloaded by torchvision, in the form of scikit-learn's data sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch

_SUBSETS = {"all": (True, False), "train": (True,), "test": (False,)}

_DESCRIPTION = """\
MNIST: 70 000 handwritten digits, 28 by 28 grey pixels from 0 (paper) to 255 (ink), size-normalised
and centred; the first 60 000 are meant for training, the other 10 000, by other writers, for tests.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86 (1998), 2278-2324.
"""


def fetch_mnist(
    *,
    data_home: str | os.PathLike[str] | None = None,
    subset: str = "all",
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load the handwritten digits of MNIST, and download them where they are not yet.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder that has, or gets, the files as ``MNIST/raw/*-ubyte``, which is torchvision's
        layout. By default the folder that the environment variable ``SKNETS_DATA`` names or, where
        it is not set, scikit-learn's (``sklearn.datasets.get_data_home()``).
    subset : {"all", "train", "test"}, default="all"
        All 70 000 images, training images first; or the first 60 000; or the last 10 000.
    download_if_missing : bool, default=True
        Download 12 MB where the files are not in ``data_home``.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    mnist : :class:`~sklearn.utils.Bunch` or tuple of ndarray
        With the attributes

        data : ndarray of shape (n_samples, 784)
            The pixels of an image in a row, float32 from 0 to 255: scalers keep float32, and
            networks then compute in it.
        target : ndarray of shape (n_samples,)
            The digits, int64 from 0 to 9.
        images : ndarray of shape (n_samples, 28, 28)
            The same pixels as images, uint8.
        train_indices, test_indices : ndarray
            The rows of each part; empty for a part that ``subset`` leaves out.
        target_names : list of int
            The digits 0 to 9.
        DESCR : str
            What the images are, and their source.

    Raises
    ------
    OSError
        If the files are not there and are not, or cannot be, downloaded.
    ValueError
        If ``subset`` is none of the three.

    References
    ----------
    LeCun, Y., Bottou, L., Bengio, Y. and Haffner, P., "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86 (1998), 2278-2324.

    Examples
    --------
    >>> from sknets.datasets import fetch_mnist
    >>> X, y = fetch_mnist(subset="test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, y.shape  # doctest: +SKIP
    ((10000, 784), (10000,))
    """
    if subset not in _SUBSETS:
        raise ValueError(f"subset must be one of {', '.join(_SUBSETS)}, got {subset!r}.")
    root = _resolve_root(data_home)
    parts = [_load_part(root, train, download_if_missing) for train in _SUBSETS[subset]]
    images = np.concatenate([part.data.numpy() for part in parts])
    target = np.concatenate([part.targets.numpy() for part in parts])
    data = images.reshape(len(images), -1).astype(np.float32)
    if return_X_y:
        return data, target
    rows = np.arange(len(images))
    n_train = {"all": len(parts[0].data), "train": len(rows), "test": 0}[subset]
    return Bunch(
        data=data,
        target=target,
        images=images,
        train_indices=rows[:n_train],
        test_indices=rows[n_train:],
        target_names=list(range(10)),
        DESCR=_DESCRIPTION,
    )


def _resolve_root(data_home: str | os.PathLike[str] | None) -> Path:
    """Return the folder that has or gets ``MNIST/raw``."""
    named = data_home if data_home is not None else os.environ.get("SKNETS_DATA")
    return Path(named).expanduser() if named else Path(get_data_home())


def _load_part(root: Path, train: bool, download: bool) -> Any:
    """Return torchvision's training or test set, or raise an error that says where it looked."""
    from torchvision.datasets import MNIST

    try:
        return MNIST(root, train=train, download=download)
    except (RuntimeError, OSError) as error:
        reason = "it could not be downloaded" if download else "download_if_missing is False"
        raise OSError(
            f"data_home must hold MNIST as MNIST/raw/*-ubyte, got {str(root)!r} without it, and "
            f"{reason}; pass data_home, or set SKNETS_DATA, to the folder that has it."
        ) from error
