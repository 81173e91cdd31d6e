"""Packages that are imported where they are used."""

import json

import pytest

from sknets._core import import_optional


def test_a_package_that_is_there():
    assert import_optional("json", extra="plot", purpose="A test") is json


def test_one_that_is_not_says_how_to_get_it():
    with pytest.raises(ImportError, match=r"Drawing needs no_such_package, .*sknets\[plot\]"):
        import_optional("no_such_package.inner", extra="plot", purpose="Drawing")
