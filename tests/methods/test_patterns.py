from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import relprop
from relprop.errors import InputError, ModelError, OptionError, UnsupportedOpError
from relprop.methods.pattern_fit import PatternFit, fit_patterns, load_patterns, save_patterns, state_note
from tests.methods.models import Attending, Plain, images, made

SIGNAL = torch.tensor([1.0, 2.0, -0.5, 0.0], dtype=torch.float64)
DISTRACTOR = torch.tensor([1.0, 2.0, 1.0, 1.0], dtype=torch.float64)


def mixed(count: int) -> tuple[Tensor, Tensor]:
    """Data ``y · signal + z · distractor``, and the weights that read ``y`` and ignore the distractor."""
    y, z = torch.randn(2, count, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    # the weights' direction: orthogonal to the distractor, one along the signal
    across = SIGNAL - (SIGNAL @ DISTRACTOR) / (DISTRACTOR @ DISTRACTOR) * DISTRACTOR
    return y * SIGNAL + z * DISTRACTOR, across / (across @ SIGNAL)


def reading(weight: Tensor, *, rectified: bool) -> nn.Module:
    linear = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        linear.weight.copy_(weight)
    return nn.Sequential(linear, *([nn.ReLU(), nn.Linear(1, 2).double()] if rectified else [])).eval()


@pytest.mark.parametrize("rectified", [False, True])
def test_the_direction_of_the_signal_is_recovered(rectified: bool) -> None:
    x, weight = mixed(20000)
    patterns = fit_patterns(reading(weight, rectified=rectified), x.split(1000))
    found = patterns["0/relu" if rectified else "0/linear"][0]
    torch.testing.assert_close(found, SIGNAL, atol=0.06, rtol=0.0)
    assert torch.cosine_similarity(weight, SIGNAL, 0) < 0.9


def test_pattern_net_shows_the_signal_where_the_gradient_shows_the_filter() -> None:
    x, weight = mixed(20000)
    model = nn.Sequential(reading(weight, rectified=True)[0], nn.ReLU(), nn.Linear(1, 2, bias=False).double()).eval()
    patterns = fit_patterns(model, [x])
    some = x[(x @ weight) > 0.5][:4]
    net = relprop.explain(model, some, 1, method="pattern-net", patterns=patterns).relevance
    gradient = relprop.explain(model, some, 1, method="gradient").relevance
    assert (torch.cosine_similarity(net, SIGNAL[None], 1).abs() > 0.99).all()
    assert (torch.cosine_similarity(gradient, SIGNAL[None], 1).abs() < 0.9).all()


def explicit(x: Tensor, w: Tensor, b: Tensor, kind: str) -> Tensor:
    """The estimators from explicit means; ``x`` is ``(samples and positions, inputs)``, ``w`` ``(outputs, inputs)``."""
    found = []
    for unit, bias in zip(w, b, strict=True):
        y = x @ unit + bias
        chosen = y > 0 if kind == "relu" else torch.ones_like(y, dtype=torch.bool)
        covariance = (x[chosen] * y[chosen, None]).mean(0) - x[chosen].mean(0) * y.mean()
        found.append(covariance / (unit @ covariance) if chosen.any() else torch.zeros_like(unit))
    return torch.stack(found)


@pytest.mark.parametrize("kind", ["linear", "relu"])
def test_dense_layers_equal_the_explicit_covariances(kind: str) -> None:
    model, x = made(Plain), images(40)
    patterns = fit_patterns(model, x.split(7))
    with torch.no_grad():
        inputs = model.features(x).flatten(1)
        expected = explicit(inputs, model.head[1].weight, model.head[1].bias, kind)
    torch.testing.assert_close(patterns[f"head.1/{kind}"], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3),
        nn.Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2)),
        nn.Conv2d(4, 8, 3, groups=2, padding=1),
        nn.Conv2d(4, 4, 3, groups=4),
    ],
)
@pytest.mark.parametrize("kind", ["linear", "relu"])
def test_convolutions_equal_the_explicit_covariances_of_their_patches(conv: nn.Conv2d, kind: str) -> None:
    model = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    x = torch.randn(9, 4, 8, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64) + 0.5
    found = fit_patterns(model, x.split(4))[f"0/{kind}"]
    patches = F.unfold(x, conv.kernel_size, conv.dilation, conv.padding, conv.stride).transpose(1, 2).flatten(0, 1)
    by_group = patches.unflatten(1, (conv.groups, -1))
    per = conv.out_channels // conv.groups
    with torch.no_grad():
        parts = [
            explicit(by_group[:, g], conv.weight[g * per : (g + 1) * per].flatten(1), conv.bias[g * per : (g + 1) * per], kind)
            for g in range(conv.groups)
        ]
    torch.testing.assert_close(found.flatten(1), torch.cat(parts), rtol=1e-6, atol=1e-9)


def test_one_pass_in_parts_is_one_batch_and_can_be_resumed(tmp_path: Path) -> None:
    model, x = made(Plain), images(20)
    whole = fit_patterns(model, [x])
    first = PatternFit(model, x[:1])
    for batch in x[:12].split(5):
        first.update(batch)
    first.save_state(tmp_path / "sums.safetensors", "half")
    assert state_note(tmp_path / "sums.safetensors") == "half"
    second = PatternFit(model, x[:1])
    second.load_state(tmp_path / "sums.safetensors")
    second.update(x[12:])
    assert second.samples == 20
    for key, value in second.patterns().items():
        torch.testing.assert_close(value, whole[key], rtol=1e-6, atol=1e-9)


def test_batchnorm_folds_into_the_layer_whose_pattern_is_fitted() -> None:
    torch.manual_seed(1)
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    nn.init.uniform_(norm.running_mean, -1, 1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.uniform_(norm.weight, 0.5, 2)
    model = nn.Sequential(conv, norm, nn.ReLU(), nn.Flatten(), nn.Linear(784, 2)).double().eval()
    x = images(10)
    found = fit_patterns(model, [x])["0/relu"].flatten(1)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weight = (conv.weight * scale[:, None, None, None]).flatten(1).detach()
    bias = ((conv.bias - norm.running_mean) * scale + norm.bias).detach()
    patches = F.unfold(x, 3).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(found, explicit(patches, weight, bias, "relu"), rtol=1e-6, atol=1e-9)


def test_a_relu_that_never_opens_has_no_pattern() -> None:
    model = made(Plain)
    with torch.no_grad():
        model.features[0].bias[2] = -1e3
    patterns = fit_patterns(model, [images(6)])
    assert not patterns["features.0/relu"][2].any()
    assert patterns["features.0/linear"][2].any()


@pytest.mark.parametrize("name", ["pattern-net", "pattern-attribution"])
@pytest.mark.parametrize("estimator", ["relu", "linear"])
def test_methods_put_the_patterns_in_place_of_the_weights(name: str, estimator: str) -> None:
    model, x = made(Plain), images(3)
    patterns = fit_patterns(model, [images(30)])
    result = relprop.explain(model, x, 2, method=name, patterns=patterns, estimator=estimator)

    def chosen(path: str, weight: Tensor) -> Tensor:
        pattern = patterns.get(f"{path}/{estimator}", patterns[f"{path}/linear"])
        return pattern * weight if name == "pattern-attribution" else pattern

    f, h = model.features, model.head
    with torch.no_grad():
        z1 = f[0](x)
        p1, at = F.max_pool2d(z1.relu(), 2, return_indices=True)
        z2 = f[3](p1)
        z3 = h[1](z2.relu().flatten(1))
        y = h[3](z3.relu())
        r = y[:, 2:3] * chosen("head.3", h[3].weight)[2]
        r = ((r * (z3 > 0)) @ chosen("head.1", h[1].weight)).reshape(z2.shape) * (z2 > 0)
        r = F.conv_transpose2d(r, chosen("features.3", f[3].weight))
        r = F.max_unpool2d(r, at, 2) * (z1 > 0)
        expected = F.conv_transpose2d(r, chosen("features.0", f[0].weight), padding=1)
    torch.testing.assert_close(result.relevance, expected)


def test_a_batchnorm_of_its_own_has_the_inverse_of_its_scale_as_pattern() -> None:
    norm = nn.BatchNorm1d(4)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    model = nn.Sequential(norm, nn.Linear(4, 3)).double().eval()
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    patterns = fit_patterns(model, [x])
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    y, a, w = model(x)[:, 1:2].detach(), patterns["1/linear"][1], model[1].weight[1].detach()
    net = relprop.explain(model, x, 1, method="pattern-net", patterns=patterns).relevance
    torch.testing.assert_close(net, y * a / scale)
    attribution = relprop.explain(model, x, 1, method="pattern-attribution", patterns=patterns).relevance
    torch.testing.assert_close(attribution, y * a * w)
    torch.testing.assert_close(attribution.sum(1), y[:, 0])


def test_files_are_read_back_and_bad_ones_refused(tmp_path: Path) -> None:
    model, x = made(Plain), images(4)
    patterns = fit_patterns(model, [x])
    save_patterns(patterns, tmp_path / "p.safetensors")
    for key, value in load_patterns(tmp_path / "p.safetensors").items():
        assert torch.equal(value, patterns[key])
    by_file = relprop.explain(model, x, 1, method="pattern-net", patterns=str(tmp_path / "p.safetensors"))
    assert torch.equal(by_file.relevance, relprop.explain(model, x, 1, method="pattern-net", patterns=patterns).relevance)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    fit = PatternFit(model, x)
    fit.update(x)
    fit.save_state(tmp_path / "sums.safetensors")
    for name, said in (("broken", "can be read"), ("other", "no patterns"), ("sums", "no patterns"), ("missing", "no file")):
        with pytest.raises(ModelError, match=said):
            relprop.explain(model, x, 1, method="pattern-net", patterns=str(tmp_path / f"{name}.safetensors"))
    with pytest.raises(ModelError, match="no running sums"):
        fit.load_state(tmp_path / "p.safetensors")


def test_relevance_that_overflows_is_refused() -> None:
    huge = {key: value * 1e200 for key, value in fit_patterns(made(Plain), [images(4)]).items()}
    with pytest.raises(ModelError, match="overflows"):
        relprop.explain(made(Plain), images(1), method="pattern-net", patterns=huge)


def test_what_cannot_be_done_is_refused() -> None:
    x = images(2)
    only = {k: v for k, v in fit_patterns(made(Plain), [x]).items() if "features" in k}
    with pytest.raises(OptionError, match=r"do not fit the model: 2 layers.*head\.1, head\.3"):
        relprop.explain(made(Plain), x, method="pattern-net", patterns=only)
    with pytest.raises(UnsupportedOpError, match=r"aten::layer_norm.*aten::softmax"):
        relprop.explain(made(Attending), x, method="pattern-attribution", patterns=fit_patterns(made(Attending), [x]))
    with pytest.raises(UnsupportedOpError, match="no convolution or dense layer"):
        PatternFit(nn.Sequential(nn.ReLU(), nn.Flatten()), x)
    with pytest.raises(InputError, match="No data"):
        fit_patterns(made(Plain), [])
