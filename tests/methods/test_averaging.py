"""The option ``average`` of every method: means over copies, by explicit loops, in Python, TOML and on the command line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import relprop
from relprop.errors import InputError, OptionError
from relprop.methods import choose_method, read_method
from relprop.methods.averaging import Averaged, Averaging, make_averaging
from relprop.text import split_list, split_options
from tests.methods.models import Attending, Plain, images, made

EXACT = {"rtol": 1e-9, "atol": 1e-12}


def by_hand(model: nn.Module, x: Tensor, target: int, method: str, average: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The mean map and the mean absorbed relevance, copy by copy; shifts are drawn anew here."""
    reach, source = average.get("reach", 8), torch.Generator().manual_seed(average.get("seed", 0))
    drawn = [torch.randint(-reach, reach + 1, (2,), generator=source).tolist() for _ in range(average.get("shifts", 0))]
    maps, absorbed = list[Tensor](), list[Tensor]()
    for down, right in [[0, 0], *drawn]:
        for mirrored in (False, True)[: 1 + average.get("flips", False)]:
            moved = torch.empty_like(x)
            height, width = x.shape[2:]
            back = [((i + down) % height, (j + right) % width) for i in range(height) for j in range(width)]
            back = [(i, width - 1 - j if mirrored else j) for i, j in back]
            rows, columns = (torch.tensor(part).reshape(height, width) for part in zip(*back, strict=True))
            moved[:, :, rows, columns] = x
            found = relprop.explain(model, moved, target, method=method)
            maps.append(found.relevance[:, :, rows, columns])
            absorbed.append(found.absorbed)
    return torch.stack(maps).mean(0), torch.stack(absorbed).mean(0)


@pytest.mark.parametrize("method", ["rap", "lrp-epsilon", "gradient", "grad-cam"])
@pytest.mark.parametrize(
    "average", [{"shifts": 3, "reach": 2, "seed": 5}, {"flips": True}, {"shifts": 2, "flips": True}], ids=str
)
def test_shifts_and_flips_are_taken_back_before_the_mean(method: str, average: dict[str, Any]) -> None:
    model, x = made(Plain), images(2)
    found = relprop.explain(model, x, 2, method=method, average=average)
    expected, absorbed = by_hand(model, x, 2, method, average)
    torch.testing.assert_close(found.relevance, expected, **EXACT)
    torch.testing.assert_close(found.absorbed, absorbed, **EXACT)
    assert not torch.allclose(found.relevance, relprop.explain(model, x, 2, method=method).relevance, rtol=0.01)
    assert "The map is the mean over" in found.notes[0] or "The map is the mean over" in " ".join(found.notes)


def test_a_gradient_over_noise_is_smoothgrad() -> None:
    model, x = made(Plain), images(3)
    ours = relprop.explain(model, x, 1, method="gradient", average={"noise": 0.2, "samples": 5, "seed": 7})
    torch.testing.assert_close(
        ours.relevance, relprop.explain(model, x, 1, method="smoothgrad", noise=0.2, samples=5, seed=7).relevance, **EXACT
    )


def test_every_copy_has_the_target_of_the_input() -> None:
    model, x = made(Plain), images(4)
    average = {"noise": 2.0, "samples": 3}
    explainer = relprop.Explainer(model, x, "lrp-epsilon", average=average)
    found = explainer(x)
    torch.testing.assert_close(found.relevance, explainer(x, model(x).argmax(1)).relevance)
    torch.testing.assert_close(found.logits, model(x).detach())
    several = explainer(x, torch.tensor([[0, 3]] * 4))
    torch.testing.assert_close(several.relevance[:, 1], explainer(x, 3).relevance, **EXACT)
    seed = torch.zeros(4, 5).double()
    seed[:, 3] = 1.0
    by_seed = relprop.explain(model, x, method="lrp-epsilon", start="one", average=average, output_relevance=seed)
    torch.testing.assert_close(
        by_seed.relevance, relprop.explain(model, x, 3, method="lrp-epsilon", start="one", average=average).relevance
    )


def test_the_batch_does_not_matter_and_global_generators_are_left_alone() -> None:
    model, x = made(Attending), images(3)
    explainer = relprop.Explainer(model, x, "reslrp", average={"shifts": 2, "noise": 0.1, "samples": 2})
    state = torch.random.get_rng_state()
    whole = explainer(x, 1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(whole.relevance[1:2], explainer(x[1:2], 1).relevance, **EXACT)
    assert not any("miss the explained output" in note for note in whole.notes)


def test_layers_are_averaged_where_pixels_stay() -> None:
    model, x = made(Plain), images(2)
    noisy = relprop.Explainer(model, x, "lrp-epsilon", average={"noise": 0.1, "samples": 2})
    assert noisy(x, 1, layers=["features"]).layers["features"].shape == (2, 12, 6, 6)
    shifted = relprop.Explainer(model, x, "lrp-epsilon", average={"shifts": 1})
    assert not shifted.plan.layers
    with pytest.raises(OptionError, match="leave layers out"):
        shifted(x, 1, layers=["features"])
    with pytest.raises(OptionError, match="no single trace"):
        shifted.trace(x, 1)
    assert "1 shifts of up to 8 pixels" in str(shifted.plan)
    assert "conv2d" in str(shifted.plan)


@pytest.mark.parametrize(
    ("average", "message"),
    [
        ({}, "nothing to average over"),
        ({"shift": 3}, "Did you mean 'shifts'"),
        ({"shifts": 1.5}, "must be int"),
        ({"flips": True, "noise": -1}, "at least 0"),
        ({"shifts": 1, "reach": 0}, "at least 1"),
        (4, "must be a table"),
    ],
)
def test_wrong_options_say_why(average: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make_averaging(average)


def test_shifts_need_an_image() -> None:
    model = nn.Linear(6, 3).double()
    x = torch.rand(2, 6).double()
    with pytest.raises(InputError, match="needs an image"):
        relprop.explain(model, x, method="lrp-epsilon", average={"shifts": 2})
    assert relprop.explain(model, x, method="lrp-epsilon", average={"noise": 0.1, "samples": 2}).relevance.shape == (2, 6)


def test_names_files_and_methods_take_it(tmp_path: Path) -> None:
    model, x = made(Plain), images(2)
    expected = relprop.explain(model, x, 1, method="grad-cam", average={"flips": True}).relevance
    text = 'grad-cam:average={"flips":true}'
    torch.testing.assert_close(relprop.explain(model, x, 1, method=text).relevance, expected)
    assert split_options('rap:average={"shifts": 4, "seed": 1}:add=signed')[1] == {
        "average": {"shifts": 4, "seed": 1},
        "add": "signed",
    }
    assert split_list('rap:average={"shifts":4,"seed":1},gradient') == ['rap:average={"shifts":4,"seed":1}', "gradient"]
    path = tmp_path / "mine.toml"
    path.write_text('base = "grad-cam"\naverage = { flips = true }\n', "utf-8")
    torch.testing.assert_close(relprop.explain(model, x, 1, method=path).relevance, expected)
    assert read_method(path).name == "mine"
    path.write_text('base = "grad-cam"\naverage = { flips = true }\n[rules]\nconv = "zplus"\n', "utf-8")
    with pytest.raises(OptionError, match="does not propagate relevance by rules"):
        read_method(path)
    path.write_text('base = "lrp-epsilon"\naverage = { shifts = 2 }\n[rules]\nconv = "zplus"\n', "utf-8")
    chosen = choose_method(path, {"average": {"shifts": 3}})
    assert isinstance(chosen, Averaged)
    assert chosen.average == Averaging(shifts=3)
    assert isinstance(chosen.method, relprop.Method)
    twice = choose_method(relprop.Method("own", {"dense": "epsilon"}), {"average": {"noise": 0.1}})
    assert isinstance(twice, Averaged)
