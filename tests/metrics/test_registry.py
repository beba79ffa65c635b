"""Metrics of the user's own, and what metrics may ask of a run."""

import pytest
import torch

import relprop
from relprop.errors import OptionError
from relprop.evaluation.compute.unit import NEEDS
from relprop.metrics import METRICS, MetricSpec, Need, Value, metric, register_metric
from relprop.metrics.base import identity


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr("relprop.metrics.registry.METRICS", METRICS.copy())


def share(relevance, mask, *, threshold=0.0):
    """Share of the relevance above a threshold that lies on the object."""
    heat = relevance.sum(1).clamp(min=threshold)
    return (heat * mask).flatten(1).sum(1) / heat.flatten(1).sum(1)


def test_a_metric_of_ones_own_is_used_as_any_other():
    spec = relprop.register_metric("share", share)
    assert spec.needs == (Need.RELEVANCE, Need.MASK)
    assert spec.values == (
        Value("share", "higher", -torch.inf, torch.inf, "Share of the relevance above a threshold that lies on the object."),
    )
    relevance, mask = torch.tensor([[[[3.0, 1.0]]], [[[1.0, 1.0]]]]), torch.tensor([[[1, 0]], [[1, 0]]])
    own = metric("share", threshold=0.5)
    torch.testing.assert_close(own.update(relevance=relevance, mask=mask, inputs=None)["share"], torch.tensor([0.75, 0.5]))
    torch.testing.assert_close(own.compute()["share"], torch.tensor(0.625, dtype=torch.float64))
    with pytest.raises(OptionError, match=r"no option 'treshold'.*threshold"):
        metric("share", treshold=1)


def test_several_scores_from_sums_over_the_set():
    values = [Value("ratio", "lower", 0, 1, "A ratio of sums.")]
    register_metric(
        "ratio",
        lambda relevance: {"top": relevance.amax((1, 2, 3)), "all": relevance.sum((1, 2, 3))},
        values=values,
        compute=lambda sums: {"ratio": sums["top"] / sums["all"]},
        over=("set", "images"),
    )
    own = metric("ratio")
    own.update(relevance=torch.tensor([[[[3.0, 1.0]]], [[[1.0, 1.0]]]]))
    assert float(own.compute()["ratio"]) == pytest.approx(4 / 6)
    assert float(own.compute("images")["ratio"]) == pytest.approx((3 / 4 + 1 / 2) / 2)


@pytest.mark.parametrize(
    ("name", "update", "options", "reason"),
    [
        ("lerf", share, {}, "already is a metric 'lerf'"),
        ("a:b", share, {}, "without colons"),
        (3, share, {}, "must be a text"),
        ("own", 3, {}, "must be a function of a batch, not int"),
        ("own", lambda relevanc: relevanc, {}, "parameter 'relevanc' is neither.*relevance"),
        ("own", lambda **given: given, {}, "parameter 'given' is neither"),
        ("own", lambda size=3: size, {}, "takes nothing of a run"),
        ("own", share, {"over": ("set",)}, "give compute"),
        ("own", share, {"values": "up"}, "values must be one of higher, lower, none"),
    ],
)
def test_nonsense_is_refused(name, update, options, reason):
    with pytest.raises(OptionError, match=reason):
        register_metric(name, update, **options)


def test_a_misspelt_need_is_an_error_at_once():
    with pytest.raises(OptionError, match=r"needs 'relevence'.*relevance"):
        MetricSpec("own", (), ("relevence",), share, identity, "-")


def test_a_run_provides_everything_that_a_metric_may_need():
    assert set(NEEDS) == set(Need)
