"""Train sknets' classifiers beside scikit-learn's on real images, and say who won.

    python examples/compare_classifiers.py
    python examples/compare_classifiers.py --data mnist --device cuda --output mnist.png

Prints one table (test accuracy, seconds to fit, rows predicted a second, and in what each of two
namesakes won) and saves one picture: learning curves, and a bar of accuracies. The digits come with
scikit-learn; MNIST is downloaded unless SKNETS_DATA names a folder that has it.
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from sklearn import linear_model, neural_network
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler

import sknets
from sknets.datasets import fetch_mnist

COLOURS = {"sknets": "#d1495b", "scikit-learn": "#30638e"}
# A broad line below a thin one: namesakes with the same random_state have much the same curve.
LINES = {
    ("MLPClassifier", "scikit-learn"): {"color": "#30638e", "linewidth": 7, "alpha": 0.4},
    ("MLPClassifier", "sknets"): {"color": "#d1495b", "linewidth": 1.5},
    ("CNNClassifier", "sknets"): {"color": "#d1495b", "linewidth": 1.5, "linestyle": "--"},
}
N_TIMED_PREDICTIONS = 5  # the median of these


@dataclass(frozen=True)
class Task:
    """Images, one in a row, and how long the networks train on them."""

    X: np.ndarray  # (n_samples, height * width), float32
    y: np.ndarray  # (n_samples,)
    shape: tuple[int, int]
    mlp_epochs: int  # at most: training stops when the loss does
    cnn_epochs: int


@dataclass
class Result:
    """What one classifier did on the test set, and how fast."""

    name: str
    library: str
    accuracy: float
    fit_seconds: float
    rows_per_second: float
    epochs: int | None  # or iterations of the solver
    loss_curve: list[float] | None  # mean training loss of each epoch, of networks alone
    won: str = ""


def load_task(name: str) -> Task:
    """Return the images of "digits" or "mnist"."""
    if name == "mnist":
        X, y = fetch_mnist(return_X_y=True)
        return Task(X, y, (28, 28), mlp_epochs=10, cnn_epochs=5)
    X, y = load_digits(return_X_y=True)
    return Task(X.astype(np.float32), y, (8, 8), mlp_epochs=200, cnn_epochs=60)


def make_classifiers(task: Task, device: str) -> list[tuple[str, str, ClassifierMixin]]:
    """Return (name, library, classifier): namesakes with the same parameters, side by side."""
    settings = {
        "Perceptron": {"random_state": 0},
        "LogisticRegression": {"max_iter": 1000},
        "MLPClassifier": {"max_iter": task.mlp_epochs, "random_state": 0},
    }
    classifiers = []
    for name, parameters in settings.items():
        theirs = getattr(neural_network if name == "MLPClassifier" else linear_model, name)
        ours = getattr(sknets, name)
        classifiers.append((name, "scikit-learn", theirs(**parameters)))
        classifiers.append((name, "sknets", ours(**parameters, device=device)))
    cnn = sknets.CNNClassifier(
        input_shape=task.shape, max_iter=task.cnn_epochs, random_state=0, device=device
    )
    return [
        ("DummyClassifier", "scikit-learn", DummyClassifier()),
        *classifiers,
        ("CNNClassifier", "sknets", cnn),
    ]


def measure(name: str, library: str, model: Pipeline, parts: tuple[np.ndarray, ...]) -> Result:
    """Fit one pipeline, time its predictions, and score them."""
    X_train, X_test, y_train, y_test = parts
    start = time.perf_counter()
    model.fit(X_train, y_train)
    fit_seconds = time.perf_counter() - start
    seconds = []
    for _ in range(N_TIMED_PREDICTIONS):
        start = time.perf_counter()
        y_pred = model.predict(X_test)
        seconds.append(time.perf_counter() - start)
    classifier = model[-1]
    epochs = getattr(classifier, "n_iter_", None)
    return Result(
        name,
        library,
        accuracy=float(np.mean(y_pred == y_test)),
        fit_seconds=fit_seconds,
        rows_per_second=len(X_test) / statistics.median(seconds),
        epochs=None if epochs is None else int(np.max(epochs)),
        loss_curve=getattr(classifier, "loss_curve_", None),
    )


def judge(results: list[Result]) -> None:
    """Write into each of two namesakes in what it beat the other."""
    better = {
        "accuracy": lambda a, b: a.accuracy > b.accuracy,
        "fit": lambda a, b: a.fit_seconds < b.fit_seconds,
        "predict": lambda a, b: a.rows_per_second > b.rows_per_second,
    }
    for one in results:
        rivals = [r for r in results if r.name == one.name and r is not one]
        one.won = ", ".join(
            word for word, beats in better.items() if any(beats(one, rival) for rival in rivals)
        )


def format_table(results: list[Result]) -> str:
    """Return the table, one line a classifier, and a line for the best of all."""
    header = ("classifier", "library", "accuracy", "fit s", "predict rows/s", "epochs", "won")
    lines = [
        (
            r.name,
            r.library,
            f"{r.accuracy:.4f}",
            f"{r.fit_seconds:.3f}",
            f"{r.rows_per_second:,.0f}",
            "-" if r.epochs is None else str(r.epochs),
            r.won,
        )
        for r in results
    ]
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    left = {0, 1, 6}  # the columns of words
    rows = [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (header, tuple("-" * width for width in widths), *lines)
    ]
    highest = max(r.accuracy for r in results)
    best = [f"{r.name} ({r.library})" for r in results if r.accuracy == highest]
    rows.append(f"\nMost accurate, with {highest:.4f}: {', '.join(best)}")
    return "\n".join(rows)


def draw(results: list[Result], title: str, path: Path) -> None:
    """Save learning curves and a bar of accuracies."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for r in results:
        if r.loss_curve:
            epochs = range(1, len(r.loss_curve) + 1)
            look = LINES[r.name, r.library]
            left.plot(epochs, r.loss_curve, **look, label=f"{r.name} ({r.library})")
    left.set(title="Learning curves", xlabel="epoch", ylabel="training loss", yscale="log")
    left.legend(frameon=False)
    left.grid(alpha=0.3)

    places = np.arange(len(results))[::-1]
    accuracies = [r.accuracy for r in results]
    bars = right.barh(places, accuracies, color=[COLOURS[r.library] for r in results])
    right.bar_label(bars, [f"{a:.3f}" for a in accuracies], padding=3)
    right.set_yticks(places, [f"{r.name}\n{r.library}" for r in results], fontsize=8)
    right.set(title="Test accuracy", xlim=(0, 1.12), xticks=np.linspace(0, 1, 6))
    right.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[str], None]]:
    """Give a function that announces the next step: a bar on a terminal, nothing elsewhere."""
    if not sys.stdout.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=total)
        started = 0

        def announce(what: str) -> None:
            nonlocal started
            bar.update(task, description=what, completed=started)
            started += 1

        yield announce


def compare(task: Task, device: str) -> list[Result]:
    """Measure every classifier, in a pipeline, on one split of the images."""
    parts = train_test_split(task.X, task.y, test_size=0.25, stratify=task.y, random_state=0)
    X_train, _, y_train, _ = parts
    # One epoch on a few rows first, so that what a library does once a process is not timed.
    for _, _, classifier in make_classifiers(replace(task, mlp_epochs=1, cnn_epochs=1), device):
        make_pipeline(MinMaxScaler(), classifier).fit(X_train[:200], y_train[:200])
    results = []
    classifiers = make_classifiers(task, device)
    with progress_bar(len(classifiers)) as announce:
        for name, library, classifier in classifiers:
            announce(f"{name} ({library})")
            pipeline = make_pipeline(MinMaxScaler(), classifier)
            results.append(measure(name, library, pipeline, parts))
    judge(results)
    return results


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the settings of one run."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--device", default="auto", help="where sknets computes: cpu, cuda, mps")
    parser.add_argument(
        "--output", type=Path, default=Path("compare_classifiers.png"), help="the picture's path"
    )
    parser.add_argument("--rows", type=int, help="take so many rows of the data, for a quick look")
    parser.add_argument("--epochs", type=int, help="train the networks for at most so many epochs")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison."""
    settings = parse_arguments(arguments)
    task = load_task(settings.data)
    if settings.rows is not None:
        task = replace(task, X=task.X[: settings.rows], y=task.y[: settings.rows])
    if settings.epochs is not None:
        task = replace(task, mlp_epochs=settings.epochs, cnn_epochs=settings.epochs)
    with warnings.catch_warnings():
        # A network that used up its epochs is seen in the table.
        warnings.simplefilter("ignore", ConvergenceWarning)
        results = compare(task, settings.device)
    print(f"{settings.data}: {len(task.X)} images of {task.shape}, a quarter of them for the test")
    print(format_table(results))
    draw(results, f"{settings.data}: sknets beside scikit-learn", settings.output)
    print(f"Picture: {settings.output.resolve()}")


if __name__ == "__main__":
    main()
