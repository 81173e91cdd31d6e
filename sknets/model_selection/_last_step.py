"""The classifier of a pipeline: the step that a search stacks."""

from __future__ import annotations

from inspect import getattr_static
from typing import Any

from sklearn.pipeline import Pipeline

_FIT_OF_PIPELINES = [getattr_static(Pipeline, name) for name in ("fit", "_fit")]


def last_step(estimator: Any) -> Any:
    """Return the classifier at the end of a pipeline, or the estimator itself."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def has_transformers(estimator: Any) -> bool:
    """Whether an estimator is a pipeline with steps before the classifier."""
    return isinstance(estimator, Pipeline) and len(estimator.steps) > 1


def is_plain_pipeline(estimator: Any) -> bool:
    """Whether an estimator is no pipeline, or one that is fitted as scikit-learn's are."""
    if not isinstance(estimator, Pipeline):
        return True
    own = (getattr_static(type(estimator), name) for name in ("fit", "_fit"))
    return all(mine is theirs for mine, theirs in zip(own, _FIT_OF_PIPELINES, strict=True))


def weight_name(estimator: Any) -> str:
    """Return the name under which ``fit`` takes sample weights."""
    prefix = f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""
    return f"{prefix}sample_weight"
