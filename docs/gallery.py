"""The order of the examples: from one line between two classes to networks of your own."""

ORDER = (
    "plot_two_gaussians",
    "plot_perceptron_rule",
    "plot_training_loop",
    "plot_backpropagation",
    "plot_gradient_descent",
    "plot_mlp_digits",
    "plot_cnn_filters_and_shifts",
    "plot_signals_with_a_1d_cnn",
    "plot_decision_boundaries",
    "plot_mixed_columns_and_imbalance",
    "plot_vectorized_search",
    "plot_own_module_in_a_search",
)


class ByLesson:
    """The key by which sphinx-gallery sorts examples; ones without a place come last, by name."""

    def __init__(self, src_dir: str) -> None:
        self.src_dir = src_dir

    def __call__(self, filename: str) -> tuple[int, str]:
        """Return the place of an example's file."""
        name = filename.removesuffix(".py")
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)

    def __repr__(self) -> str:
        return "<ByLesson>"  # the same in every build, or sphinx would read all pages anew
