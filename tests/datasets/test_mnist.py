"""MNIST: found where it is, downloaded where it is not, and in scikit-learn's form."""

import functools
import gzip
import hashlib
import http.server
import os
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
import torchvision

from sknets.datasets import fetch_mnist

N_TRAIN, N_TEST = 6, 3


def _idx(array):
    """Return the bytes of an idx file: a magic number, the shape, the values."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def small():
    """Return names and bytes of a small MNIST, and its images and labels."""
    rng = np.random.RandomState(0)
    images = rng.randint(256, size=(N_TRAIN + N_TEST, 28, 28)).astype(np.uint8)
    labels = rng.randint(10, size=N_TRAIN + N_TEST).astype(np.uint8)
    files = {}
    for part, rows in {"train": slice(N_TRAIN), "t10k": slice(N_TRAIN, None)}.items():
        files[f"{part}-images-idx3-ubyte"] = _idx(images[rows])
        files[f"{part}-labels-idx1-ubyte"] = _idx(labels[rows])
    return files, images, labels


@pytest.fixture
def home(small, tmp_path):
    """Return a folder that has the small MNIST in torchvision's layout."""
    raw = tmp_path / "home" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in small[0].items():
        (raw / name).write_bytes(content)
    return tmp_path / "home"


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and logs nothing."""

    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(small, tmp_path, monkeypatch):
    """Let torchvision download the small MNIST from a server on this machine; return its folder."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    resources = []
    for name, content in small[0].items():
        packed = gzip.compress(content)
        (folder / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    handler = functools.partial(_QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        mirrors = [f"http://127.0.0.1:{server.server_port}/"]
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", mirrors)
        monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
        yield folder
        server.shutdown()
        thread.join()


def test_contents(small, home):
    _, images, labels = small
    mnist = fetch_mnist(data_home=home)
    np.testing.assert_array_equal(mnist.images, images)
    np.testing.assert_array_equal(mnist.data, images.reshape(len(images), 784))
    np.testing.assert_array_equal(mnist.target, labels)
    assert (mnist.images.dtype, mnist.data.dtype) == (np.uint8, np.float32)
    assert mnist.target.dtype == np.int64
    np.testing.assert_array_equal(mnist.train_indices, range(N_TRAIN))
    np.testing.assert_array_equal(mnist.test_indices, range(N_TRAIN, N_TRAIN + N_TEST))


@pytest.mark.parametrize(
    ("subset", "rows", "n_train"),
    [("train", slice(N_TRAIN), N_TRAIN), ("test", slice(N_TRAIN, None), 0)],
)
def test_subset(small, home, subset, rows, n_train):
    _, images, labels = small
    mnist = fetch_mnist(data_home=str(home), subset=subset)
    np.testing.assert_array_equal(mnist.images, images[rows])
    np.testing.assert_array_equal(mnist.target, labels[rows])
    assert len(mnist.train_indices) == n_train
    assert len(mnist.train_indices) + len(mnist.test_indices) == len(mnist.data)


def test_return_X_y(home):
    X, y = fetch_mnist(data_home=home, return_X_y=True)
    mnist = fetch_mnist(data_home=home)
    np.testing.assert_array_equal(X, mnist.data)
    np.testing.assert_array_equal(y, mnist.target)


def test_environment_names_the_folder(home, monkeypatch):
    monkeypatch.setenv("SKNETS_DATA", str(home))
    assert len(fetch_mnist(download_if_missing=False).data) == N_TRAIN + N_TEST


def test_argument_goes_before_environment(home, tmp_path, monkeypatch):
    monkeypatch.setenv("SKNETS_DATA", str(tmp_path / "elsewhere"))
    assert len(fetch_mnist(data_home=home, download_if_missing=False).data) == N_TRAIN + N_TEST


def test_scikit_learns_folder_is_the_last_resort(home, monkeypatch):
    monkeypatch.delenv("SKNETS_DATA", raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(home))
    assert len(fetch_mnist(download_if_missing=False).data) == N_TRAIN + N_TEST


def test_download(small, mirror, tmp_path):
    home = tmp_path / "new"
    np.testing.assert_array_equal(fetch_mnist(data_home=home).images, small[1])
    assert len(fetch_mnist(data_home=home, download_if_missing=False).data) == N_TRAIN + N_TEST


def test_absent_and_not_wanted(mirror, tmp_path):
    with pytest.raises(OSError, match=r"data_home must hold MNIST .* download_if_missing is False"):
        fetch_mnist(data_home=tmp_path / "new", download_if_missing=False)
    assert not (tmp_path / "new").exists()


def test_download_fails(tmp_path, monkeypatch):
    nowhere = (tmp_path / "nowhere").as_uri() + "/"
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [nowhere])
    with pytest.raises(OSError, match=r"data_home must hold .* could not be downloaded; pass"):
        fetch_mnist(data_home=tmp_path / "new")


def test_wrong_subset(home):
    with pytest.raises(ValueError, match="subset must be one of all, train, test, got 'valid'"):
        fetch_mnist(data_home=home, subset="valid")


def test_torchvision_is_imported_only_where_it_is_used():
    code = "import sys, sknets.datasets; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0


def test_the_real_one(mnist):
    assert mnist.data.shape == (70_000, 784)
    assert mnist.images.shape == (70_000, 28, 28)
    assert (len(mnist.train_indices), len(mnist.test_indices)) == (60_000, 10_000)
    # Counts of the digits 0 to 9 in the test set, as Yann LeCun's page and many papers have them.
    counts = np.bincount(mnist.target[mnist.test_indices])
    np.testing.assert_array_equal(counts, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    assert (mnist.data.min(), mnist.data.max()) == (0, 255)
