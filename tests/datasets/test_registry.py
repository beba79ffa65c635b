"""Data sets of the user's own."""

import pytest

import relprop
from relprop.datasets import DATASETS, Dataset, open_dataset, register_dataset
from relprop.errors import OptionError


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr("relprop.datasets.registry.DATASETS", DATASETS.copy())


def open_nothing(path, *, only=None):
    return Dataset(f"{path} {only}", (), (), lambda name: name, ())


def test_a_data_set_of_ones_own_opens_by_name():
    relprop.register_dataset("nothing", open_nothing)
    assert open_dataset("nothing:here", only="cats").name == "here cats"
    with pytest.raises(OptionError, match=r"'nothing' has no option 'onyl'.*only"):
        open_dataset("nothing:here", onyl="cats")


@pytest.mark.parametrize(
    ("name", "opener", "reason"),
    [
        ("voc", open_nothing, "already is a kind of data set 'voc'"),
        ("a:b", open_nothing, "without a colon"),
        ("own", "voc", "opened by a function, not str"),
        ("own", lambda: None, r"\(path, \*, options\); it takes \(\)"),
        ("own", lambda path, other: None, r"it takes \(path, other\)"),
    ],
)
def test_nonsense_is_refused(name, opener, reason):
    with pytest.raises(OptionError, match=reason):
        register_dataset(name, opener)
