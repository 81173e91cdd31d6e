"""The convolutional net as a classifier."""

from __future__ import annotations

from collections.abc import Hashable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import nn

from sknets._base import TRAINING_CONSTRAINTS, BaseNetwork, TrainingData
from sknets._core import SeededRandom
from sknets._core._sklearn import Interval, StrOptions
from sknets._data import LabelCodec
from sknets._nn import ACTIVATIONS, CNN, NORMALIZATIONS, POOLINGS
from sknets.neural_network._sample_shape import (
    CHANNELS,
    as_array_if_nested,
    channels_first,
    check_holds,
    flatten_samples,
    resolve_sample_shape,
    warn_of_other_order,
)

_POSITIVE = Interval(Integral, 1, None, closed="left")
_RATE = Interval(Real, 0, 1, closed="left")

# What decides the layers and their shapes, beside dropout.
_STRUCTURE = (
    "conv_channels",
    "kernel_size",
    "stride",
    "dilation",
    "padding",
    "pool",
    "pool_size",
    "hidden_layer_sizes",
    "activation",
    "normalization",
    "input_shape",
    "channels",
)


class CNNClassifier(BaseNetwork):
    """Convolutional network classifier for images, signals and flat rows.

    The net is one block a convolutional layer (convolution, normalisation, activation, pooling,
    dropout), then the dense layers of :class:`~sknets.neural_network.MLPClassifier`, which see
    what the last block gives, flattened. A mini-batch of B samples has the objective
    ``sum(w * log_loss) / sum(w) + alpha / 2 * sum(||W_i||^2) / sum(w)``, with w the sample
    weights (1 by default, so that sum(w) = B).

    `kernel_size`, `stride`, `dilation`, `padding`, `pool`, `pool_size` and `conv_dropout` take
    one value for all convolutional layers, or a tuple with one entry for each. An entry may again
    be a tuple, with one value for each axis: ``kernel_size=(5, (1, 3))`` is 5x5 in the first layer
    and 1x3 in the second.

    Parameters
    ----------
    conv_channels : array-like of int, default=(32, 64)
        Channels of each convolutional layer.
    kernel_size : int, or one entry a layer, default=3
        Size of the kernels.
    stride : int, or one entry a layer, default=1
        Step of the kernels.
    dilation : int, or one entry a layer, default=1
        Distance between the elements of a kernel.
    padding : {"same", "valid"} or int, or one entry a layer, default="same"
        Zeros around the input. "same" adds ``dilation * (kernel_size - 1)`` to each axis, half
        before and half after (an odd one after), so that a size becomes ceil(size / stride).
        "valid" adds none, an integer adds that many on each side.
    pool : {"max", "avg", "l2"} or None, or one entry a layer, default="max"
        Largest value, mean, or root of the sum of squares of each window; None for no pooling.
    pool_size : int, or one entry a layer, default=2
        Size and step of the pooling windows. A window larger than what it pools is the whole of
        it, so pooling never shrinks an axis to nothing.
    conv_dropout : float, or one value a layer, default=0.0
        Share of the values (not of whole channels) set to zero after each pooling in training, in
        [0, 1). Not with "lbfgs".
    hidden_layer_sizes : array-like of int, default=(128,)
        Units of each dense layer between the convolutions and the logits.
    activation : str, default="relu"
        Activation of all layers but the last, one of those of
        :class:`~sknets.neural_network.MLPClassifier`.
    normalization : {None, "batch", "layer"}, default=None
        Normalisation before each activation. "layer" takes a sample's channels and positions
        together.
    input_shape : tuple of int or None, default=None
        Shape of one sample, as it lies in X: (channels, length) is a signal, (channels, height,
        width) an image. It is needed for flat rows of images and for signals of several channels.
        With None, X of shape (n, features) holds signals of one channel, (n, height, width) images
        of one channel, and four axes are images with channels.
    channels : {"first", "last"}, default="first"
        Where the channels are in X and in `input_shape`; "last" is (n, height, width, channels)
        and (n, length, channels).
    solver : {"adam", "sgd", "lbfgs"}, default="adam"
        "adam" and "sgd" train by mini-batches, "lbfgs" on all rows at once.
    alpha : float, default=0.0001
        Strength of the L2 penalty on the weights (not the intercepts), divided by the number of
        rows in a batch.
    batch_size : int or "auto", default="auto"
        Rows of a mini-batch; "auto" is ``min(200, n_samples)``. Not used by "lbfgs".
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        Course of the learning rate; only for "sgd". "invscaling" divides it by
        ``t ** power_t``; "adaptive" by 5 each time progress ends, until 1e-6.
    learning_rate_init : float, default=0.001
        Learning rate at the start; for "adam" and "sgd".
    power_t : float, default=0.5
        Exponent of "invscaling".
    max_iter : int, default=200
        Epochs at most; iterations at most for "lbfgs".
    shuffle : bool, default=True
        Whether to shuffle the rows before each epoch.
    random_state : int, RandomState instance or None, default=None
        Source of initial weights, splits, shuffles and dropout. An integer gives the same bits
        every time. None takes fresh entropy and does not touch NumPy's global generator.
    tol : float, default=1e-4
        Training ends after more than `n_iter_no_change` epochs in a row whose loss (or validation
        score, with `early_stopping`) improved by less than this. For "lbfgs", the largest component
        of the gradient at which to stop.
    verbose : bool, default=False
        Whether to print a line an epoch, and why training slows down or ends.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the weights of the last one.
    momentum : float, default=0.9
        Momentum of "sgd", in [0, 1].
    nesterovs_momentum : bool, default=True
        Whether "sgd" uses Nesterov's momentum.
    early_stopping : bool, default=False
        Whether to stop by the score on a validation set and keep the best epoch's weights. The
        set is ``X_val`` of ``fit``, or else `validation_fraction` of the training rows.
    validation_fraction : float, default=0.1
        Share of the training rows to set aside for `early_stopping`, in [0, 1).
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay rates of the moments of "adam", in [0, 1).
    epsilon : float, default=1e-8
        Numerical stability of "adam".
    n_iter_no_change : int, default=10
        Epochs in a row without progress to bear: training ends after one more.
    max_fun : int, default=15000
        Evaluations of the loss at most, for "lbfgs".
    dropout : float or sequence of float, default=0.0
        Share of each dense hidden layer's outputs set to zero in training, in [0, 1); one value,
        or one a hidden layer. Not with "lbfgs".
    loss : {"log_loss", "focal_loss", "hinge"} or callable, default="log_loss"
        What is minimised: the cross-entropy; the focal loss (gamma 2), to which rows that are
        classified well count little; or the hinge loss of Crammer and Singer, which gives no
        probabilities. A callable takes logits and class numbers, (B, K) and (B,), and returns one
        value a row, as ``functools.partial(cross_entropy, reduction="none")`` does; for two classes
        in one logit, logits (B,) and 0 and 1 (B,); for many labels, (B, K) both.
    label_smoothing : float, default=0.0
        Share of each row's target that is spread over all classes (over yes and no for a label of
        many), in [0, 1). Probabilities near 0 and 1 then do not pay.
    class_weight : dict, list of dict, "balanced" or None, default=None
        Weight of each class's rows, times ``sample_weight``; "balanced" is
        ``n_samples / (n_classes * n_rows_of_class)``. For a multilabel y, a list with a dict a
        label, with weights of 0 and 1, in place of a dict; a row's weight is their product.
    callbacks : list or None, default=None
        Callbacks of skorch, or (name, callback) pairs. scikit-learn's callbacks are set with
        ``set_callbacks``.
    device : str or torch.device, default="auto"
        "cpu", "cuda", "cuda:1", "mps"; "auto" is where X is if it is a tensor, else a GPU if there
        is one, else the CPU.
    precision : {"auto", "float32", "float64", "bf16"}, default="auto"
        "auto" keeps X's float32 or float64 on the CPU and is float32 elsewhere; "bf16" is mixed
        precision.
    compile : bool, default=False
        Whether to train through :func:`torch.compile`, which needs a C++ compiler (Triton on a GPU)
        and some seconds at first: for long fits of nets that are not small. The net must draw no
        random numbers in training, so without dropout.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    module_ : torch.nn.Module
        The net, giving logits (n_samples, n_outputs) of a tensor that has the shape of X.
        ``module_.features`` is a ``torch.nn.Sequential`` of the convolutional layers by name:
        ``conv1``, ``norm1``, ``activation1``, ``pool1``, ``dropout1``, ``conv2``, …, those that
        there are; ``module_.classifier`` has the dense layers.
    input_shape_ : tuple of int
        Shape of one sample as the convolutions see it: (channels, length) or (channels, height,
        width).
    history_ : dict of lists
        A row an epoch: "epoch", "train_loss", "validation_loss", "validation_score",
        "learning_rate", "seconds", and what callbacks note; ``pandas.DataFrame(clf.history_)`` is
        a table.
    loss_ : float
        Training loss of the last epoch.
    loss_curve_ : list of float
        Training loss of each epoch; not with "lbfgs".
    best_loss_ : float or None
        Smallest training loss; None with `early_stopping`; not there after "lbfgs".
    validation_scores_ : list of float or None
        Validation accuracy of each epoch, with `early_stopping`, else None; not there after
        "lbfgs".
    best_validation_score_ : float or None
        The largest of them, or None; not there after "lbfgs".
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Rows trained on so far.
    n_outputs_ : int
        Number of logits.
    out_activation_ : {"softmax", "logistic"}
        What turns logits into probabilities.
    engine_ : str
        Which way of computing gradients ran: "closed form" or "autograd"; ", compiled", ", stacked"
        or ", CUDA graphs" behind it says how, and "lbfgs, " before it which solver asked.
    n_features_in_ : int
        Number of values of a sample.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had them.

    See Also
    --------
    sknets.neural_network.MLPClassifier : Dense networks.

    References
    ----------
    LeCun, Y., Bottou, L., Bengio, Y. and Haffner, P., "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86, 1998.

    Szegedy, C. et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016.

    `sklearn.neural_network.MLPClassifier
    <https://scikit-learn.org/stable/modules/generated/sklearn.neural_network.MLPClassifier.html>`_
    for the parameters of training.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from sknets.neural_network import CNNClassifier
    >>> digits = load_digits()
    >>> X_train, X_test, y_train, y_test = train_test_split(
    ...     digits.images / 16, digits.target, random_state=0
    ... )
    >>> clf = CNNClassifier(
    ...     (8, 16),
    ...     hidden_layer_sizes=(32,),
    ...     learning_rate_init=0.01,
    ...     max_iter=8,
    ...     random_state=0,
    ...     device="cpu",
    ... )
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # 8 epochs: not converged
    ...     clf = clf.fit(X_train, y_train)
    >>> clf.input_shape_
    (1, 8, 8)
    >>> clf.score(X_test, y_test) > 0.9
    True
    """

    _parameter_constraints: dict = {
        **TRAINING_CONSTRAINTS,
        "conv_channels": ["array-like", _POSITIVE],
        "kernel_size": [_POSITIVE, "array-like"],
        "stride": [_POSITIVE, "array-like"],
        "dilation": [_POSITIVE, "array-like"],
        "padding": [
            StrOptions({"same", "valid"}),
            Interval(Integral, 0, None, closed="left"),
            "array-like",
        ],
        "pool": [StrOptions(set(POOLINGS)), None, "array-like"],
        "pool_size": [_POSITIVE, "array-like"],
        "conv_dropout": [_RATE, "array-like"],
        "hidden_layer_sizes": ["array-like", _POSITIVE],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "normalization": [StrOptions(set(NORMALIZATIONS)), None],
        "input_shape": ["array-like", None],
        "channels": [StrOptions(set(CHANNELS))],
        "dropout": [_RATE, "array-like"],
    }

    def __init__(
        self,
        conv_channels: Any = (32, 64),
        *,
        kernel_size: Any = 3,
        stride: Any = 1,
        dilation: Any = 1,
        padding: Any = "same",
        pool: Any = "max",
        pool_size: Any = 2,
        conv_dropout: Any = 0.0,
        hidden_layer_sizes: Any = (128,),
        activation: str = "relu",
        normalization: str | None = None,
        input_shape: Any = None,
        channels: str = "first",
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        loss: Any = "log_loss",
        label_smoothing: float = 0.0,
        class_weight: Any = None,
        callbacks: Any = None,
        device: Any = "auto",
        precision: str = "auto",
        compile: bool = False,
    ) -> None:
        self.conv_channels = conv_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        self.padding = padding
        self.pool = pool
        self.pool_size = pool_size
        self.conv_dropout = conv_dropout
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.normalization = normalization
        self.input_shape = input_shape
        self.channels = channels
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.compile = compile

    def _lay_out(self, module: nn.Module, data: TrainingData) -> None:
        assert isinstance(module, CNN)
        pays = data.device.type == "cpu" and data.precision.dtype == torch.float32
        last = pays and len(module.input_shape) == 3
        module.memory_format = torch.channels_last if last else torch.contiguous_format

    def _flatten(self, X: Any, *, reset: bool) -> Any:
        """Return X with one row a sample.

        The shape of a sample is read here, and settled in `_make_module` once X is known to be
        sound. A table's width is left to scikit-learn's check of the features.
        """
        X = as_array_if_nested(X)
        flat = getattr(X, "ndim", 2) <= 2
        if reset:
            self._given_shape = None if flat else tuple(X.shape[1:])
            if not flat:
                resolve_sample_shape(X.shape, self.input_shape, self.channels)
                if self.input_shape is None:
                    warn_of_other_order(X.shape, self.channels)
        elif not flat:
            check_holds(X.shape, self._sample_shape, self._channels)
        return flatten_samples(X)

    def _make_module(self, n_features: int, codec: LabelCodec) -> nn.Module:
        given = self._given_shape or (n_features,)
        self._channels = self.channels
        self._sample_shape = resolve_sample_shape(
            ("n_samples", *given), self.input_shape, self.channels
        )
        self.input_shape_ = channels_first(self._sample_shape, self.channels)
        with SeededRandom(torch.Generator()):  # torch's own initial values are replaced
            return CNN(
                self.input_shape_,
                codec.n_outputs,
                self.conv_channels,
                kernel_size=self.kernel_size,
                stride=self.stride,
                dilation=self.dilation,
                padding=self.padding,
                pool=self.pool,
                pool_size=self.pool_size,
                conv_dropout=self.conv_dropout,
                hidden_layer_sizes=self.hidden_layer_sizes,
                activation=self.activation,
                normalization=self.normalization,
                dropout=self.dropout,
                channels=self.channels,
            ).double()

    def _check_module(self, module: nn.Module, codec: LabelCodec) -> None:
        assert isinstance(module, CNN)
        if next(module.parameters()).device.type == "cpu":
            module.check_on_cpu(is_bf16=self.precision == "bf16")

    def _structure(self) -> Hashable:
        settings = [repr(getattr(self, name)) for name in _STRUCTURE]
        drops = [repr(np.asarray(rate) > 0) for rate in (self.conv_dropout, self.dropout)]
        return (*settings, *drops)

    def _check_settings(self, validation: tuple, incremental: bool) -> None:
        super()._check_settings(validation, incremental)
        if self.solver == "lbfgs" and np.any(np.asarray(self.conv_dropout) != 0):
            raise ValueError(
                'conv_dropout must be 0 with solver="lbfgs", whose line search needs the same loss '
                f"for the same weights, got {self.conv_dropout!r}."
            )

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: images and signals are taken too."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
