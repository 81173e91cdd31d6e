"""The multi-layer perceptron as a classifier."""

from __future__ import annotations

from collections.abc import Hashable
from numbers import Integral, Real
from typing import Any

import numpy as np
from torch import nn

from sknets._base import TRAINING_CONSTRAINTS, BaseNetwork, check_numba_settings
from sknets._core import value_key
from sknets._core._sklearn import Interval, StrOptions
from sknets._data import LabelCodec
from sknets._nn import ACTIVATIONS, MLP, NORMALIZATIONS
from sknets.neural_network._live_weights import LiveWeights


class MLPClassifier(BaseNetwork):
    """Multi-layer perceptron classifier, scikit-learn's on PyTorch.

    With the same integer ``random_state`` the initial weights, the validation split and the
    shuffles are those of :class:`sklearn.neural_network.MLPClassifier`, and so are, up to
    rounding, the weights it learns.

    The net is h_0 = x, h_i = f(W_i h_{i-1} + b_i), logits = W h + b. A mini-batch of B rows has
    the objective ``sum(w * log_loss) / sum(w) + alpha / 2 * sum(||W_i||^2) / sum(w)``, with w the
    sample weights (1 by default, so that sum(w) = B).

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of each hidden layer.
    activation : str, default="relu"
        Activation of the hidden layers: "identity", "logistic", "tanh" and "relu" as in
        scikit-learn; also "elu", "gelu", "leaky_relu", "mish", "selu", "silu", "softplus",
        "softsign".
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
        Epochs in a row without progress to bear: training ends after one more, as in scikit-learn.
    max_fun : int, default=15000
        Evaluations of the loss at most, for "lbfgs".
    dropout : float or sequence of float, default=0.0
        Share of each hidden layer's outputs set to zero in training, in [0, 1); one value, or one
        a hidden layer. Not with "lbfgs".
    normalization : {None, "batch", "layer"}, default=None
        Normalisation before each activation.
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
        skorch callbacks, or (name, callback) pairs. scikit-learn's callbacks are set with
        ``set_callbacks``.
    device : str or torch.device, default="auto"
        "cpu", "cuda", "cuda:1", "mps"; "auto" is where X is if it is a tensor, else a GPU if there
        is one, else the CPU.
    precision : {"auto", "float32", "float64", "bf16"}, default="auto"
        "auto" keeps X's float32 or float64 on the CPU and is float32 elsewhere; "bf16" is mixed
        precision.
    compile : bool or "numba", default=False
        Whether to train through :func:`torch.compile`, which needs a C++ compiler (Triton on a GPU)
        and some seconds at first: for long fits of nets that are not small. The net must draw no
        random numbers in training, so without dropout. "numba" is for many fits, or long ones, of
        small nets on a CPU: many steps are one call of compiled code. It needs ``pip install
        "sknets[numba]"``, some ten seconds in the first fit of all and half a second in every
        program. It covers "adam" and "sgd" and scikit-learn's activations; what it does not cover
        (dropout, normalisation, other losses, callbacks, a GPU) is an error.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    module_ : torch.nn.Module
        The net, giving logits (n_samples, n_outputs) of a tensor (n_samples, n_features).
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer; they share their memory with `module_` on the CPU.
    intercepts_ : list of ndarray of shape (n_out,)
        Intercepts of each layer.
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
    n_layers_ : int
        Number of layers, input and output included.
    n_outputs_ : int
        Number of logits.
    out_activation_ : {"softmax", "logistic"}
        What turns logits into probabilities.
    engine_ : str
        Which way of computing gradients ran: "closed form" or "autograd"; ", compiled", ", numba",
        ", stacked" or ", CUDA graphs" behind it says how, and "lbfgs, " before it which solver
        asked.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had them.

    See Also
    --------
    sknets.neural_network.CNNClassifier : Convolutional networks.
    sklearn.neural_network.MLPClassifier : The baseline.

    References
    ----------
    Kingma, D. P. and Ba, J., "Adam: A Method for Stochastic Optimization", ICLR 2015.

    Szegedy, C. et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016.

    `scikit-learn's user guide
    <https://scikit-learn.org/stable/modules/neural_networks_supervised.html>`_

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from sknets.neural_network import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
    >>> clf = MLPClassifier((64,), max_iter=30, tol=0, random_state=0, device="cpu")
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # 30 epochs: not converged
    ...     clf = clf.fit(X_train, y_train)
    >>> clf.score(X_test, y_test) > 0.9
    True
    """

    _parameter_constraints: dict = {
        **TRAINING_CONSTRAINTS,
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "normalization": [StrOptions({n for n in NORMALIZATIONS if n is not None}), None],
        "compile": ["boolean", StrOptions({"numba"})],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
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
        normalization: str | None = None,
        loss: Any = "log_loss",
        label_smoothing: float = 0.0,
        class_weight: Any = None,
        callbacks: Any = None,
        device: Any = "auto",
        precision: str = "auto",
        compile: bool | str = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
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
        self.normalization = normalization
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.compile = compile

    def _make_module(self, n_features: int, codec: LabelCodec) -> nn.Module:
        return MLP(
            n_features,
            self.hidden_layer_sizes,
            codec.n_outputs,
            self.activation,
            self.dropout,
            self.normalization,
            drawn=False,
        ).double()

    def _check_settings(self, validation: tuple, incremental: bool) -> None:
        super()._check_settings(validation, incremental)
        check_numba_settings(self)

    def _structure(self) -> Hashable:
        # The closed form has masks of ones for nets without dropout beside others.
        is_closed = self.normalization is None and self.loss == "log_loss"
        drops = None if is_closed else repr(np.asarray(self.dropout) > 0)
        return (repr(self.hidden_layer_sizes), self.activation, self.normalization, drops)

    def _start_settings(self) -> Hashable:
        # A subclass may make its modules otherwise.
        return value_key(self.dropout) if type(self) is MLPClassifier else None

    @property
    def coefs_(self) -> list[Any]:
        """Weights of each layer, shape (n_in, n_out); what is put in place goes to ``module_``."""
        weights = (layer.weight for layer in self.module_.linears)
        return LiveWeights(weights, self._namespace.export)

    @coefs_.setter
    def coefs_(self, values: Any) -> None:
        self.coefs_[:] = values

    @property
    def intercepts_(self) -> list[Any]:
        """Intercepts of each layer, shape (n_out,); what is put in place goes to ``module_``."""
        biases = (layer.bias for layer in self.module_.linears)
        return LiveWeights(biases, self._namespace.export)

    @intercepts_.setter
    def intercepts_(self, values: Any) -> None:
        self.intercepts_[:] = values

    @property
    def n_layers_(self) -> int:
        """Number of layers, input and output included."""
        return len(self.module_.linears) + 1
