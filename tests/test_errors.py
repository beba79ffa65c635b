"""Messages of errors are bounded."""

import pickle

import pytest

from relprop import errors
from relprop.errors import LONGEST_MESSAGE, RelpropError, cut

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RelpropError)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_message_is_cut_in_the_middle(kind):
    text = "begins " + "x" * 5000 + " ends"
    found = str(kind(text))
    assert len(found) == LONGEST_MESSAGE == 2000
    assert found.startswith("begins xxx")
    assert found.endswith("xxx ends")
    assert "x … x" in found
    assert str(kind("short")) == "short"
    assert str(pickle.loads(pickle.dumps(kind(text)))) == found


def test_what_fits_is_not_cut():
    assert cut("x" * 10, 10) == "x" * 10
    assert cut("abcdefghij", 9) == "abc … hij"
