"""Public docstrings are numpydoc, and every public class and function shows an example."""

import importlib
import inspect
import pkgutil
import tomllib
from pathlib import Path

import pytest
from numpydoc.validate import ERROR_MSGS, validate

import sknets

CONFIG = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
CHECKS = set(ERROR_MSGS) - set(CONFIG["tool"]["numpydoc_validation"]["checks"])


def public_modules():
    """Return the names of `sknets` and of the folders in it that are for users."""
    doors = pkgutil.iter_modules(sknets.__path__, "sknets.")
    return ["sknets", *(door.name for door in doors if not door.name.split(".")[1].startswith("_"))]


def public_objects():
    """Return the paths of all public classes and functions."""
    paths = []
    for name in public_modules():
        module = importlib.import_module(name)
        found = ((member, getattr(module, member)) for member in module.__all__)
        paths += [f"{name}.{member}" for member, value in found if callable(value)]
    return paths


def own_methods(path):
    """Return the paths of the public methods and properties of a class that sknets itself wrote."""
    module, name = path.rsplit(".", 1)
    cls = getattr(importlib.import_module(module), name)
    if not inspect.isclass(cls):
        return []
    paths = []
    for member, value in inspect.getmembers(cls):
        value = value.fget if isinstance(value, property) else value
        home = getattr(inspect.unwrap(value), "__module__", None) if callable(value) else None
        if not member.startswith("_") and (home or "").startswith("sknets"):
            paths.append(f"{path}.{member}")
    return paths


@pytest.mark.parametrize("path", public_objects())
def test_numpydoc(path):
    problems = [
        f"{name}: {code} {message}"
        for name in [path, *own_methods(path)]
        for code, message in validate(name)["errors"]
        if code in CHECKS
    ]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize("path", public_objects())
def test_example(path):
    module, name = path.rsplit(".", 1)
    assert ">>> " in inspect.getdoc(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("name", public_modules())
def test_module_says_what_it_holds(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, member) for member in module.__all__)
