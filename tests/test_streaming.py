"""Explanations of data loaders: equal to calls batch by batch, and nothing is kept."""

import weakref

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import relprop
from relprop.errors import InputError, TargetError

X = torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 3, 0, 1, 2])


@pytest.fixture(scope="module")
def explainer():
    torch.manual_seed(0)
    return relprop.Explainer(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)), X[:1])


def check_equal(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.relevance, theirs.relevance, rtol=0, atol=0)
        assert ours.target.tolist() == theirs.target.tolist()


@pytest.mark.parametrize("target", [None, 2, "top:2", "contrast:1,2"])
def test_it_equals_calls_batch_by_batch(explainer, target):
    loader = DataLoader(TensorDataset(X, Y), batch_size=3)
    found, called = list(explainer.over(loader, target, layers=["0"])), [explainer(x, target, layers=["0"]) for x, _ in loader]
    for ours, theirs in zip(found, called, strict=True):
        torch.testing.assert_close(ours.relevance, theirs.relevance, rtol=0, atol=0)
        torch.testing.assert_close(ours.layers["0"], theirs.layers["0"], rtol=0, atol=0)
        assert ours.words == theirs.words


def test_labels_are_the_target_only_where_they_are_asked_for(explainer):
    pairs = [(X[:2], Y[:2]), [X[2:], Y[2:]]]
    check_equal(list(explainer.over(pairs, "labels")), [explainer(X[:2], Y[:2]), explainer(X[2:], Y[2:])])
    check_equal(list(explainer.over(pairs)), [explainer(X[:2]), explainer(X[2:])])
    check_equal(list(explainer.over([X[:2], (X[2:],)])), [explainer(X[:2]), explainer(X[2:])])


class Two(nn.Module):
    def forward(self, a, b):
        return torch.cat([a, b], 1).relu()


class Named(nn.Module):
    def forward(self, image, labels=None):
        return image.flatten(1)[:, :3] if labels is None else image.flatten(1)[:, :3] * labels


def test_models_of_several_arguments_and_dicts():
    a, b = torch.rand(3, 2), torch.rand(3, 2)
    explainer = relprop.Explainer(Two(), (a, b), "gradient")
    (found,) = explainer.over([(a, b, Y[:3])], "labels")
    torch.testing.assert_close(found.relevance[0], explainer((a, b), Y[:3]).relevance[0])
    (found,) = explainer.over([(a, b)])
    assert found.target.tolist() == explainer((a, b)).target.tolist()
    image, scale = torch.rand(2, 1, 2, 2), torch.rand(2, 3)
    explainer = relprop.Explainer(Named(), {"image": image}, "gradient")
    (found,) = explainer.over([{"image": image, "labels": torch.tensor([2, 1])}], "labels")
    assert found.target.tolist() == [2, 1]
    explainer = relprop.Explainer(Named(), {"image": image, "labels": scale}, "gradient")
    (found,) = explainer.over([{"image": image, "labels": scale, "label": torch.tensor([2, 1])}], "labels")
    assert found.target.tolist() == [2, 1], "the model takes an entry of the name labels"


def test_no_batch_and_no_explanation_is_kept(explainer):
    alive = []

    def batches():
        for start in range(0, 6, 2):
            batch = X[start : start + 2].clone()
            alive.append(weakref.ref(batch))
            yield batch
            del batch

    for found in explainer.over(batches()):  # enumerate would hold what it yielded
        kept = weakref.ref(found), weakref.ref(found.relevance)
        del found
        assert [reference() for reference in kept] == [None, None]
        assert [reference() for reference in alive[:-1]] == [None] * (len(alive) - 1)
    assert len(alive) == 3


def test_it_begins_at_the_first_batch_and_takes_no_more_than_it_is_asked_for(explainer):
    taken = []
    stream = explainer.over(taken.append(start) or X[start : start + 1] for start in range(7))
    assert taken == []
    next(stream)
    assert taken == [0]


def test_explanations_move(explainer):
    assert next(explainer.over([X], to="meta")).relevance.is_meta
    assert not next(explainer.over([X], to="cpu")).relevance.is_meta


@pytest.mark.parametrize(
    ("batches", "target", "message"),
    [
        ([X, X[:, :2]], None, r"^Batch 2: The tensor .* has shape"),
        ([X, X * torch.nan], None, "^Batch 2: .*NaN"),
        ([(X, Y), X], "labels", "^Batch 2: It has no labels"),
        ([(X, Y + 9)], "labels", "^Batch 1: Target 9 is out of range|^Batch 1: Target 1"),
        ([(X, Y[:2])], "labels", "^Batch 1: .*shape"),
        (X, None, "not from one tensor"),
        (3, None, "not from a int"),
    ],
)
def test_errors_name_the_batch(explainer, batches, target, message):
    with pytest.raises((InputError, TargetError), match=message):
        list(explainer.over(batches, target))


def test_what_the_loader_raises_names_the_batch_too(explainer):
    def batches():
        yield X
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        list(explainer.over(batches()))
    assert caught.value.__notes__ == ["This happened in batch 2."]


def test_a_bar_is_shown_on_request_in_terminals(explainer, capsys, monkeypatch):
    list(explainer.over([X, X], progress=True))
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    list(explainer.over([X, X], progress=True))
    assert "Explaining" in capsys.readouterr().err
    list(explainer.over([X, X]))
    assert capsys.readouterr().err == ""
