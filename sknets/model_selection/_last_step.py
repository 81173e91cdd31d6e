"""The classifier of a pipeline: the step that a search stacks."""

from __future__ import annotations

from inspect import getattr_static
from typing import Any

from sklearn import get_config
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import process_routing

_FIT_OF_PIPELINES = [getattr_static(Pipeline, name) for name in ("fit", "_fit")]


def last_step(estimator: Any) -> Any:
    """Return the classifier at the end of a pipeline, or the estimator itself."""
    is_pipeline = isinstance(estimator, Pipeline) and estimator.steps
    return estimator.steps[-1][1] if is_pipeline else estimator


def has_transformers(estimator: Any) -> bool:
    """Whether an estimator is a pipeline with steps before the classifier."""
    return isinstance(estimator, Pipeline) and len(estimator.steps) > 1


def is_plain_pipeline(estimator: Any) -> bool:
    """Whether an estimator is no pipeline, or one that is fitted as scikit-learn's are."""
    if not isinstance(estimator, Pipeline):
        return True
    own = (getattr_static(type(estimator), name) for name in ("fit", "_fit"))
    return all(mine is theirs for mine, theirs in zip(own, _FIT_OF_PIPELINES, strict=True))


def split_fit_params(estimator: Any, params: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the sample weights that reach the classifier, and the names of all else in `params`.

    Parameters
    ----------
    estimator : estimator
        A classifier, or a plain pipeline.
    params : dict
        What its ``fit`` is given.
    """
    own, others = dict(params), []
    if isinstance(estimator, Pipeline) and params:
        last = estimator.steps[-1][0]
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(estimator, "fit", **params)
            given = {step: [*to.values()] for step, to in routed.items()}
            own = routed[last].fit
            others = [name for step in given if step != last for to in given[step] for name in to]
        else:
            prefix = f"{last}__"
            own = {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}
            others = [name for name in params if not name.startswith(prefix)]
    weight = own.pop("sample_weight", None)
    return weight, sorted({*others, *own})
