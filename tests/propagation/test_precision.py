"""Single precision keeps four digits of every map, half precision is explained in single, and what was lost is said."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import relprop
from relprop import rules
from relprop.errors import RelevanceError
from relprop.methods import METHODS, STARTS, Method
from relprop.ops.op import ABSORBED
from relprop.rules.rule import Rule
from tests.methods.models import Attending, Plain
from tests.methods.quick import ALL, quick
from tests.propagation.networks import FEW, networks
from tests.rules.reference import check_conservation

ALLOWED = 1e-4
FAMILY = [
    name
    for name, entry in METHODS.items()
    if "patterns" not in entry.options and isinstance(method := entry.build(), Method) and method.needs is None
]
HALVES = (torch.bfloat16, torch.float16)


SIGN_SPLITTING = (
    *(rules.alpha_beta(2, 1), rules.alpha_beta(2, 1, bias="leave out"), rules.zplus(), rules.zplus(bias="leave out")),
    *(rules.gamma(), rules.absolute(), rules.rap(), rules.rap("released", "conv"), rules.abslrp()),
)


def deviations(model, x, names=FAMILY, **options):
    """By method, the relative norm of what the map of a model in float32 differs by from that in float64."""
    single, double = (relprop.capture(copy.deepcopy(model).to(dtype), x.to(dtype)) for dtype in (torch.float32, torch.float64))
    found = {}
    for name in names:
        exact = double.explainer(name, **options)(x.double(), 1).relevance
        rounded = single.explainer(name, **options)(x.float(), 1).relevance
        assert rounded.dtype == torch.float32
        found[name] = float((rounded - exact).norm() / exact.norm().clamp(min=torch.finfo(torch.float64).tiny))
    return found


def too_far(found):
    return {name: f"{value:.1e}" for name, value in found.items() if not value <= ALLOWED}


@FEW
@given(networks())
def test_every_method_on_random_networks(drawn):
    model, x = drawn
    model = model.float()  # both precisions have the same weights
    assert too_far(deviations(model, x.float())) == {}


def convolutions(seed, depth, scale):
    """Convolutions as in networks that take pixels: grouped, padded, with inputs that are never negative."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()]
    for i in range(depth):
        layers += [nn.Conv2d(8, 8, (3, 5)[i % 2], padding=(1, 2)[i % 2], groups=(1, 4)[i % 2]), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    return model, torch.rand(3, 3, 6, 6) * scale


@FEW
@given(st.integers(0, 1000), st.integers(1, 8), st.sampled_from([255.0, 1.0, 1e-4]))
def test_every_method_on_pixels_and_small_sums(seed, depth, scale):
    assert too_far(deviations(*convolutions(seed, depth, scale))) == {}


@FEW
@given(st.integers(0, 1000), st.integers(1, 7), st.booleans(), st.booleans())
def test_every_sign_splitting_rule_on_sums_of_nearly_one_sign(seed, digits, signed, flipped):
    """One of two sums is that many digits smaller than the other: as a difference it would be rounding error."""
    torch.manual_seed(seed)
    weight = torch.rand(6, 12)
    weight[:, 0] = -(10.0**-digits) * torch.rand(6)
    x = torch.rand(2, 12)
    if signed:  # contributions keep their signs
        sign = torch.randn(12).sign()
        weight, x = weight * sign, x * sign
    layer, before = nn.Linear(12, 6), nn.ReLU() if not signed else nn.Identity()
    with torch.no_grad():
        layer.weight.copy_(-weight if flipped else weight)
    model = nn.Sequential(before, layer, nn.ReLU() if not flipped else nn.Identity(), nn.Linear(6, 3))
    single, double = (relprop.capture(copy.deepcopy(model).to(dtype), x.to(dtype)) for dtype in (torch.float32, torch.float64))
    for rule in SIGN_SPLITTING:
        method = Method("one", {"dense": rules.epsilon(), "input": rule})
        exact = double.explainer(method)(x.double(), 1).relevance
        assert (single.explainer(method)(x, 1).relevance - exact).norm() <= 1e-5 * exact.norm(), rule.name


@pytest.mark.parametrize(
    ("build", "dtype", "names"),
    [(Plain, torch.bfloat16, FAMILY), (Plain, torch.float16, (*FAMILY, *ALL)), (Attending, torch.bfloat16, FAMILY)],
    ids=["bfloat16", "float16", "bfloat16 with attention"],
)
def test_a_model_in_half_precision_is_explained_as_the_same_weights_in_single(build, dtype, names):
    """Pixels are small, for sums of contributions below 0.06 once counted as zero in float16."""
    torch.manual_seed(0)
    half = build().to(dtype).eval()
    x = (torch.rand(2, 3, 16, 16) / 100).to(dtype)
    captured, whole = relprop.capture(half, x), relprop.capture(copy.deepcopy(half).float(), x.float())
    for name in names:
        options = quick(name, 16)
        found, expected = captured.explainer(name, **options)(x, 1), whole.explainer(name, **options)(x.float(), 1)
        assert found.relevance.dtype == torch.float32
        assert name in ALL or expected.relevance.any()
        torch.testing.assert_close(found.relevance, expected.relevance, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_model_with_autocast_inside_is_explained_in_single_precision(dtype):
    """Autocast rounds the weights, as it does when the model runs, and nothing else."""
    torch.manual_seed(0)

    class Casting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Plain()

        def forward(self, x):
            with torch.autocast("cpu", dtype):
                return self.net(x)

    model, x = Casting().eval(), torch.rand(2, 3, 16, 16)
    captured, whole = relprop.capture(model, x), relprop.capture(model.net, x)
    rounded = relprop.capture(copy.deepcopy(model.net).to(dtype).float(), x)
    for name in ("rap", "lrp-alpha2-beta1", "abslrp", "attnlrp", "input-x-gradient"):
        found, expected = captured.explainer(name)(x, 1).relevance, whole.explainer(name)(x, 1).relevance
        assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.99, name
        torch.testing.assert_close(found, rounded.explainer(name)(x, 1).relevance, rtol=1e-3, atol=1e-6, msg=name)


def test_a_map_that_is_not_finite_is_refused_by_the_op_where_it_began():
    """Without a stabilizer relevance is divided by next to nothing."""
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 1e-19)
    method = Method("mine", {"dense": rules.epsilon(0.0, "leave out")})
    given = {"method": method, "output_relevance": torch.full((1, 2), 100.0)}
    with pytest.raises(
        RelevanceError, match=r"'mine': relevance is NaN or infinite from aten::linear in 2 \(rule proportional\) on"
    ):
        relprop.explain(model, torch.ones(1, 4), **given)
    given["output_relevance"] = given["output_relevance"].double()
    assert relprop.explain(model.double(), torch.ones(1, 4).double(), **given).relevance.isfinite().all()


@pytest.mark.parametrize("method", ["rap", "rap-released", "lrp-alpha2-beta1", "abslrp"])
def test_inputs_near_the_smallest_numbers_give_finite_maps(method):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 4)).eval()
    explainer = relprop.Explainer(model, torch.zeros(1, 3, 8, 8), method)
    for _ in range(5):
        assert explainer(torch.randn(2, 3, 8, 8) * 1e-41, 1).relevance.isfinite().all()


def test_a_probability_of_nearly_one_keeps_its_digits():
    """SGLRP starts with ``y_t (1 − y_t)``, which as a difference is rounding error."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([0.0, 16.0, 1.0]))
    assert too_far(deviations(model, torch.rand(2, 4), ["sglrp"])) == {}


@pytest.mark.parametrize("gate", [torch.sigmoid, torch.tanh, torch.erf, torch.sin, torch.atan, torch.nn.functional.softsign])
def test_abslrp_scales_no_rounding_error_up(gate):
    """Where a derivative is even, what a negative value takes cancels, and the other factor takes all."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.last = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.last(self.a(x) * gate(-torch.relu(self.b(x)) - 0.1))

    torch.manual_seed(0)
    assert too_far(deviations(Gated(), torch.rand(3, 4), ["abslrp-plain"])) == {}


def test_abslrp_holds_the_difference_of_two_maps_that_are_nearly_equal():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2, bias=False))
    with torch.no_grad():
        model[2].weight[0] = model[2].weight[1] * 3 + 1e-5 * torch.rand(6)
    assert too_far(deviations(model, torch.rand(2, 4), ["abslrp"])) == {}


def test_rap_counts_no_values_that_single_precision_rounds_to_zero():
    """GELU of −6 is zero in float32 alone, and RAP takes its surplus from the inputs that are not zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        model[0].bias[::2] = -6.5
    x = torch.randn(2, 8)
    assert model[:2](x).eq(0).any()
    assert not model.double()[:2](x.double()).eq(0).any()
    check_conservation(relprop.explain(model, x.double(), 1), 1e-13)
    assert too_far(deviations(model.float(), x, ["rap"])) == {}


def losing(share):
    """A rule of one's own that passes only a share on."""
    return Rule("losing", lambda call, relevance: {call.data: relevance @ call["weight"] * share, ABSORBED: 0.0}, ("x",))


@pytest.mark.parametrize("start", ["logit", "one", "mean", "clrp"])
@pytest.mark.parametrize("conserves", [True, False])
def test_a_method_that_misses_its_promise_says_so(conserves, start):
    method = Method("mine", {"dense": rules.epsilon(), "input": losing(0.5)}, start=STARTS[start], conserves=conserves)
    torch.manual_seed(0)
    explanation = relprop.explain(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), torch.rand(3, 4), 1, method=method)
    said = [note for note in explanation.notes if "miss the explained output by up to" in note]
    assert len(said) == conserves


def deep(depth):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()]
    for _ in range(depth):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    for parameter in model.parameters():
        if parameter.dim() == 4:
            nn.init.kaiming_normal_(parameter)
    return model


def test_a_deep_network_whose_relevance_grows_beyond_single_precision_says_so():
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    single = relprop.explain(deep(90), x, 1)
    missed = float((single.relevance.double().sum() + single.absorbed - single.logits[0, 1]).abs() / single.logits[0, 1].abs())
    assert missed > 0.01
    assert any("explainer.double() computes in float64" in note for note in single.notes)
    assert relprop.explain(deep(10), x, 1).notes == ()


@pytest.mark.parametrize("method", ["lrp-zplus", "abslrp-plain"])
def test_a_map_of_zeros_says_so(method):
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.fill_(-1)
        model[0].bias.fill_(2)
    x = torch.tensor([[0.1, 0.2, 0.3, 0.4], [-0.1, -0.2, -0.3, -0.4]])  # the first sample's contributions are all negative
    explanation = relprop.explain(model, x, 1, method=method)
    assert not explanation.relevance[0].any()
    assert any(note.startswith("1 of 2 maps are zero everywhere") for note in explanation.notes)
    assert relprop.explain(model, x[1:], 1, method=method).notes == ()
