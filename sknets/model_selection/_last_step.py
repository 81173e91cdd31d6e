"""The classifier of a pipeline: the step that a search stacks."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline


def last_step(estimator: Any) -> Any:
    """Return the classifier at the end of a pipeline, or the estimator itself."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def has_transformers(estimator: Any) -> bool:
    """Whether an estimator is a pipeline with steps before the classifier."""
    return isinstance(estimator, Pipeline) and len(estimator.steps) > 1


def weight_name(estimator: Any) -> str:
    """Return the name under which ``fit`` takes sample weights."""
    prefix = f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""
    return f"{prefix}sample_weight"
