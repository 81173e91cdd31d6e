"""Data to learn from: real images and samples whose truth is known."""

from sknets.datasets._mnist import fetch_mnist
from sknets.datasets._two_gaussians import make_two_gaussians

__all__ = ["fetch_mnist", "make_two_gaussians"]
