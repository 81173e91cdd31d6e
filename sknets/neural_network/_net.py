"""Any torch module as a classifier."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sknets._base import TRAINING_CONSTRAINTS, BaseNetwork, TrainingData
from sknets._core import SeededRandom, make_generator, value_key
from sknets._data import LabelCodec
from sknets.neural_network._own_module import (
    are_probabilities,
    check_parameters,
    copy_of,
    outputs_of_sigmoids,
    probe,
)
from sknets.neural_network._sample_shape import as_array_if_nested, flatten_samples


class NetClassifier(BaseNetwork):
    """Classifier around a PyTorch module of yours.

    The module gives logits; loss, weights, batches, validation, stopping and predictions are those
    of :class:`sknets.neural_network.MLPClassifier`.

    Parameters
    ----------
    module : callable or torch.nn.Module
        Either a callable ``(n_features, n_classes) -> torch.nn.Module``, called in ``fit``; for an
        X of more than two axes, ``n_features`` is the shape of one sample. Or a module, which is
        copied, so that ``fit`` starts from its weights. It maps (n_samples, n_features) to logits
        (n_samples, n_classes); for two classes one column will do. After a multilabel fit, the
        classes are the labels.
    solver : {"adam", "sgd", "lbfgs"}, default="adam"
        "adam" and "sgd" train by mini-batches, "lbfgs" on all rows at once.
    alpha : float, default=0.0001
        Strength of the L2 penalty on the weights of layers (not on biases or the scales of
        normalisations), divided by the number of rows in a batch.
    batch_size : int or "auto", default="auto"
        Rows of a mini-batch; "auto" is ``min(200, n_samples)``. Not used by "lbfgs".
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        Course of the learning rate; only for "sgd".
    learning_rate_init : float, default=0.001
        Learning rate at the start; for "adam" and "sgd".
    power_t : float, default=0.5
        Exponent of "invscaling".
    max_iter : int, default=200
        Epochs at most; iterations at most for "lbfgs".
    shuffle : bool, default=True
        Whether to shuffle the rows before each epoch.
    random_state : int, RandomState instance or None, default=None
        Source of initial weights, splits, shuffles and dropout: torch's random functions draw
        from it while the module is built and while it trains. Draws inside compiled kernels
        (dropout of attention and recurrent layers) are out of its reach.
    tol : float, default=1e-4
        Training ends after more than `n_iter_no_change` epochs in a row whose loss (or validation
        score, with `early_stopping`) improved by less than this.
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
        skorch callbacks, or (name, callback) pairs.
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
        The fitted module.
    history_ : dict of lists
        A row an epoch: "epoch", "train_loss", "validation_loss", "validation_score",
        "learning_rate", "seconds", and what callbacks note.
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
        Which way of computing gradients ran.
    n_features_in_ : int
        Number of features; of an X of more axes, their product.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had them.

    See Also
    --------
    sknets.neural_network.MLPClassifier : Dense networks, without a module of your own.

    References
    ----------
    Szegedy, C. et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016.

    `Training parameters
    <https://scikit-learn.org/stable/modules/generated/sklearn.neural_network.MLPClassifier.html>`_

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from torch import nn
    >>> from sknets.neural_network import NetClassifier
    >>> def make_net(n_features, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features, 16), nn.ReLU(), nn.Linear(16, n_classes))
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = NetClassifier(make_net, solver="lbfgs", random_state=0, device="cpu").fit(X, y)
    >>> clf.score(X, y) > 0.9
    True
    """

    _parameter_constraints: dict = {**TRAINING_CONSTRAINTS, "module": [callable]}

    def __init__(
        self,
        module: Callable[..., nn.Module] | nn.Module,
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
        loss: Any = "log_loss",
        label_smoothing: float = 0.0,
        class_weight: Any = None,
        callbacks: Any = None,
        device: Any = "auto",
        precision: str = "auto",
        compile: bool = False,
    ) -> None:
        self.module = module
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
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.compile = compile

    def _flatten(self, X: Any, *, reset: bool) -> Any:
        X = as_array_if_nested(X)
        axes = tuple(getattr(X, "shape", ())[1:])
        shape = axes if len(axes) > 1 else None
        if reset:
            self._sample_shape = shape
        elif shape is not None and shape != self._sample_shape:
            raise ValueError(
                f"X must have samples of shape {self._sample_shape or '(n_features,)'}, as in fit, "
                f"got {shape}."
            )
        return flatten_samples(X)

    def _build_module(
        self, n_features: int, codec: LabelCodec, random_state: np.random.RandomState
    ) -> nn.Module:
        if isinstance(self.module, nn.Module):
            module, generator = copy_of(self.module), None
        else:
            generator = make_generator(random_state)
            with SeededRandom(generator):
                module = self._call_factory(n_features, codec)
        check_parameters(module)
        if any(is_lazy(p) for p in module.parameters()):
            # The first rows that they see give lazy layers their weights.
            with SeededRandom(generator or make_generator(random_state)):
                self._probe(module)
        return module.double()

    def _renew_module(self, data: TrainingData) -> nn.Module:
        before = (self._fitted_with, self.module_)
        is_same = any(self.module is module for module in before)
        if not (is_same or value_key(self.module) == value_key(self._fitted_with)):
            raise ValueError(
                "module must be the one of the fit that this one goes on with (warm_start, "
                "partial_fit), got another. Fit a new estimator."
            )
        return copy_of(self.module_)

    def _call_factory(self, n_features: int, codec: LabelCodec) -> nn.Module:
        n_classes = max(2, len(codec.classes)) if codec.kind == "binary" else codec.n_outputs
        arguments = (self._sample_shape or n_features, n_classes)
        try:
            inspect.signature(self.module).bind(*arguments)
        except TypeError as error:
            raise TypeError(
                "module must be a callable of (n_features, n_classes), got one that does not take "
                f"these two: {error}."
            ) from error
        except ValueError:  # a callable that has no signature to look at
            pass
        try:
            module = self.module(*arguments)
        except Exception as error:  # of the user's code: it passes, with a word more
            if self._sample_shape is not None:
                error.add_note(
                    f"module was called with n_features={arguments[0]}, the shape of a sample, and "
                    f"n_classes={n_classes}."
                )
            raise
        if not isinstance(module, nn.Module):
            raise TypeError(
                "module must be a torch.nn.Module or a callable that returns one, got a callable "
                f"that returned {type(module).__name__}."
            )
        return module

    def _fitted_state(self, module: nn.Module) -> dict[str, Any]:
        return {**super()._fitted_state(module), "_fitted_with": self.module}

    def _check_module(self, module: nn.Module, codec: LabelCodec) -> None:
        with outputs_of_sigmoids(module) as outputs:
            logits = self._probe(module)
        n_logits = logits.shape[1]
        n_classes = len(codec.classes)
        allowed = (1, 2) if codec.kind == "binary" else (n_classes,)
        if n_logits not in allowed:
            number = " or ".join(map(str, allowed))
            raise ValueError(
                f"module must give {number} logits a sample for {n_classes} classes or labels, "
                f"got {n_logits}."
            )
        found = None
        if codec.kind != "multilabel" and n_logits > 1 and are_probabilities(logits):
            found = "numbers from 0 to 1 that add up to 1 for a row, as a softmax gives them"
        elif any(output is logits for output in outputs):
            found = "the output of a sigmoid"
        if found is not None:
            warnings.warn(
                f"module must give logits, got {found}. Leave it out, for predictions and the "
                "log-loss apply it themselves.",
                stacklevel=2,
            )

    def _n_logits(self, module: nn.Module, codec: LabelCodec) -> int:
        return self._probe(module).shape[1]

    def _probe(self, module: nn.Module) -> torch.Tensor:
        return probe(module, self._sample_shape or (self.n_features_in_,))

    def _engine_module(self, module: nn.Module) -> nn.Module:
        if self._sample_shape is None:
            return module
        return nn.Sequential(nn.Unflatten(1, self._sample_shape), module)

    def _structure(self) -> Hashable:
        return value_key(self.module)

    def _uses_random_numbers(self, module: nn.Module) -> bool:
        return True
