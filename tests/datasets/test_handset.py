"""Networks with weights set by hand and their pictures: what the logits are, which pixels matter, and what methods make of them."""

import pytest
import torch

import relprop
from relprop.datasets import open_dataset
from relprop.errors import InputError, OptionError
from relprop.metrics import metric
from relprop.zoo import load
from relprop.zoo.handset import COLORS, DESIGNS, PREPROCESSING, SQUARE

EXACT = (
    *("lrp-epsilon", "epsilon-plus", "attnlrp", "cp-lrp", "reslrp", "deeplift", "integrated-gradients", "input-x-gradient"),
    *("epsilon-alpha2-beta1", "epsilon-gamma-box"),
)
"""Methods whose maps are right on every network, up to how much each pixel counts."""
OF_ONE_SIGN = (
    "rap",
    "lrp-zplus",
    "lrp-alpha1-beta0",
    "lrp-alpha2-beta1",
    "lrp-gamma",
    "deep-taylor",
    "excitation-backprop",
    "abslrp-plain",
)
"""Methods whose maps are right where no class counts against another."""


def samples(design, count=4):
    found = list(open_dataset(f"handset:{design}", count=count).samples(PREPROCESSING))
    image, parts = torch.stack([s.image for s in found]), torch.stack([s.parts for s in found])
    return image, parts, torch.tensor([s.labels[0] for s in found])


def squares(images):
    """The number of squares in each color, counted pixel by pixel."""
    return torch.stack(
        [(images == torch.tensor(color).view(3, 1, 1)).all(1).sum((1, 2)) / SQUARE**2 for color in COLORS.values()], 1
    )


@pytest.mark.parametrize("design", DESIGNS)
def test_logits_are_what_the_design_says(design):
    images, _, _ = samples(design, 8)
    logits, counts = load(f"handset:{design}").model(images), squares(images)
    if design in {"count", "redundant"}:
        torch.testing.assert_close(logits, counts)
    elif design == "difference":
        torch.testing.assert_close(logits, counts - counts.roll(-1, 1))
    elif design == "parity":
        torch.testing.assert_close(logits, counts % 2)
    else:
        gray = (images == 1).all(1)
        own = torch.stack([(images == torch.tensor(c).view(3, 1, 1)).all(1) for c in COLORS.values()], 1)
        pairs = (own[..., :-1] & gray[:, None, :, 1:]).sum((2, 3))
        torch.testing.assert_close(logits * (images.shape[3] - 1), pairs.float())


@pytest.mark.parametrize("design", DESIGNS)
def test_only_the_pixels_of_the_right_map_matter(design):
    images, parts, target = samples(design)
    model = load(f"handset:{design}").model
    with torch.no_grad():
        blank = torch.where((parts == 0)[:, None], -1.0, images)
        torch.testing.assert_close(model(blank).gather(1, target[:, None]), model(images).gather(1, target[:, None]))
        without = torch.where((parts != 0)[:, None], -1.0, images)
        assert float(model(without).gather(1, target[:, None]).abs().max()) < 1e-5


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("design", DESIGNS)
def test_methods_find_the_right_map(design, method):
    images, parts, target = samples(design, 12)
    found = relprop.explain(load(f"handset:{design}").model, images, target, method=method).relevance
    scores = metric("known-map").update(relevance=found, parts=parts)
    there = scores["cosine"].isfinite()  # a logit of zero may have no relevance
    assert there.any()
    assert float(scores["outside"][there].max()) < 1e-6
    assert float(scores["average_precision"][there].min()) > 1 - 1e-9
    if DESIGNS[design].signed:
        assert float(scores["wrong_sign"][there].max()) < 1e-6
        assert float(scores["cosine"][there].min()) > 0.99


@pytest.mark.parametrize("method", OF_ONE_SIGN)
@pytest.mark.parametrize("design", [name for name in DESIGNS if name != "difference"])
def test_methods_of_one_sign_find_the_map_of_evidence_of_one_sign(design, method):
    images, parts, target = samples(design)
    found = relprop.explain(load(f"handset:{design}").model, images, target, method=method).relevance
    scores = metric("known-map").update(relevance=found, parts=parts)
    assert float(scores["outside"].nan_to_num().max()) < 1e-6
    assert float(scores["cosine"].nan_to_num(1.0).min()) > 0.99


def test_controls_do_not_find_it():
    for method in ("random", "edge", "lrp-flat"):
        images, parts, target = samples("count")
        found = relprop.explain(load("handset:count").model, images, target, method=method).relevance
        assert float(metric("known-map").update(relevance=found, parts=parts)["cosine"].max()) < 0.5


def test_the_same_seed_gives_the_same_pictures():
    first, again, other = (next(open_dataset("handset:count", seed=seed).samples(PREPROCESSING)) for seed in (0, 0, 1))
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)


def test_what_does_not_exist_is_refused():
    with pytest.raises(InputError, match=r"no network 'cuont'.*Did you mean 'count'"):
        open_dataset("handset:cuont")
    with pytest.raises(OptionError, match="count must be at least 1"):
        open_dataset("handset:count", count=0)
    with pytest.raises(OptionError, match="no network 'handset:nothing'"):
        load("handset:nothing")
