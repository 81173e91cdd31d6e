"""scikit-learn's own checks of an estimator: every class with its defaults, and every solver."""

from dataclasses import asdict

import pytest
import torch
from sklearn.base import clone
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from sknets.linear_model import LogisticRegression, Perceptron
from sknets.neural_network import CNNClassifier, MLPClassifier, NetClassifier
from tests.common._estimators import small_net

LOGISTIC_SOLVERS = ("lbfgs", "newton-cg", "newton-cholesky", "proximal-newton", "adam", "sgd")
NETWORK_SOLVERS = ("adam", "sgd", "lbfgs")

_QUICK = {"learning_rate_init": 0.05, "max_iter": 50}

ESTIMATORS = [
    Perceptron(),
    *(LogisticRegression(solver=solver) for solver in LOGISTIC_SOLVERS),
    LogisticRegression(device="cpu", compile="numba"),
    *(MLPClassifier(solver=solver) for solver in NETWORK_SOLVERS),
    MLPClassifier(device="cpu", compile="numba"),
    CNNClassifier(),
    # The same code with less to compute.
    CNNClassifier((4,), hidden_layer_sizes=(8,), solver="sgd", **_QUICK),
    CNNClassifier((4,), hidden_layer_sizes=(8,), solver="lbfgs", tol=1e-2),
    NetClassifier(small_net, solver="adam", **_QUICK),
]
SLOW_ESTIMATORS = [
    *(CNNClassifier(solver=solver) for solver in ("sgd", "lbfgs")),
    *(NetClassifier(small_net, solver=solver) for solver in NETWORK_SOLVERS),
]

_PERCEPTRON_RULE = (
    "a row of weight 2 moves a perceptron by twice the step at once; given twice, the row is seen "
    "again after the first step, and may then be right"
)


def expected_failed_checks(estimator):
    if not isinstance(estimator, Perceptron):
        return {}
    return {
        "check_sample_weight_equivalence_on_dense_data": _PERCEPTRON_RULE,
        "check_sample_weight_equivalence_on_sparse_data": _PERCEPTRON_RULE,
    }


def uses_cuda(check):
    """Whether the check makes CUDA tensors before it calls the estimator."""
    return any("cuda" in str(value) for value in check.keywords.values())


def run_check(estimator, check):
    if uses_cuda(check) and not torch.cuda.is_available():
        pytest.skip("scikit-learn's check makes CUDA tensors, and this machine has no GPU")
    if torch.cuda.is_available():
        # On a GPU the default is float32; the checks compare with float64, to its last digits.
        estimator = clone(estimator).set_params(precision="float64")
    check(estimator)


@pytest.mark.any_device
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    ESTIMATORS, expected_failed_checks=expected_failed_checks, xfail_strict=True
)
def test_check_of_scikit_learn(estimator, check):
    run_check(estimator, check)


@pytest.mark.slow
@pytest.mark.any_device
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(SLOW_ESTIMATORS)
def test_check_of_scikit_learn_on_slower_estimators(estimator, check):
    run_check(estimator, check)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_no_tag_gets_out_of_a_check(estimator):
    tags = get_tags(estimator)
    assert not tags._skip_test
    assert not tags.no_validation
    assert not tags.non_deterministic
    assert tags.requires_fit
    assert tags.array_api_support
    assert tags.estimator_type == "classifier"
    assert not tags.classifier_tags.poor_score
    assert tags.classifier_tags.multi_class
    assert tags.target_tags.required
    inputs = asdict(tags.input_tags)
    assert inputs.pop("two_d_array")
    assert inputs.pop("sparse")
    inputs.pop("three_d_array")
    assert not any(inputs.values()), f"these get out of checks: {inputs}"
