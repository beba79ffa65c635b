"""Pictures of what is no photo: volumes, videos, signals, tables and texts."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from rich.console import Console
from torch import nn

import relprop
from relprop.errors import InputError, OptionError
from relprop.viz import color_words, plot_features, plot_frames, plot_signals, plot_slices
from relprop.viz.page import png_of


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(mpl.text.Text)]


def volumes(targets: object = 1) -> relprop.Explanation:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 3)).eval()
    return relprop.explain(model, torch.rand(2, 1, 5, 6, 7), targets, method="lrp-epsilon")


def signals(channels: int = 2) -> relprop.Explanation:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(channels, 4, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    return relprop.explain(model, torch.randn(2, channels, 40), 1, method="lrp-epsilon")


def rows(features: int = 6) -> relprop.Explanation:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(features, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    return relprop.explain(model, torch.randn(3, features), torch.tensor([[0, 1]] * 3), method="lrp-epsilon")


class Reader(nn.Module):
    """Tokens to classes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 4), nn.Linear(4, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.embedding(ids)).mean(1))


def read() -> relprop.Explanation:
    torch.manual_seed(0)
    return relprop.explain(Reader().eval(), torch.randint(0, 20, (2, 5)), 1, method="lrp-epsilon")


def test_slices_run_through_the_strongest_voxel():
    explanation = volumes()
    found = texts(plot_slices(explanation))
    for heatmap in explanation.heatmap():
        depth, height, width = np.unravel_index(int(heatmap.abs().argmax()), heatmap.shape)
        assert {f"depth {depth}", f"height {height}", f"width {width}"} <= set(found)
    assert any("share one scale" in text for text in found)
    chosen = texts(plot_slices(explanation, at=(1, 2, 3)))
    assert {"depth 1", "height 2", "width 3"} <= set(chosen)


def test_slices_show_their_own_voxels():
    """The pixels of a slice are those of the volume, and its map is of the same place."""
    explanation = volumes()
    images = plot_slices(explanation[:1], at=(1, 2, 3)).axes[0].images
    shapes = [image.get_array().shape[:2] for image in images if image.get_array().shape[0] > 3]
    assert shapes == [(6, 7), (6, 7), (5, 7), (5, 7), (5, 6), (5, 6)]
    volume = explanation.inputs[0, 0]
    shown = images[0].get_array()[..., 0]
    expected = ((volume[1] - volume.min()) / (volume.max() - volume.min()) * 255).round().numpy()
    assert np.abs(shown.astype(float) - expected).max() <= 1


def test_frames_are_evenly_spread():
    found = texts(plot_frames(volumes(torch.tensor([[0, 1]] * 2)), count=3))
    assert [text for text in found if text.startswith("frame")] == ["frame 0", "frame 2", "frame 4"] * 4


def test_lines_have_the_color_of_their_relevance():
    explanation = signals()
    figure = plot_signals(explanation, rate=20, channels=["lead I", "$2$"])
    lanes = [axes for axes in figure.axes if any(isinstance(c, LineCollection) for c in axes.collections)]
    assert len(lanes) == 4
    for lane, relevance in zip(lanes, explanation.relevance.flatten(0, 1), strict=True):
        (lines,) = [c for c in lane.collections if isinstance(c, LineCollection)]
        redness = lines.get_colors()[:, 0] - lines.get_colors()[:, 2]
        strong = relevance.abs() > 0.2 * relevance.abs().max()
        assert (np.sign(redness)[strong.numpy()] == relevance.sign()[strong].numpy()).all()
        assert lane.get_xlim() == (0.0, 39 / 20)
    assert {"lead I", "$2$", "seconds"} <= set(texts(figure))
    assert len(png_of(figure)) > 1000


def test_bars_are_sorted_and_the_rest_is_added_up():
    explanation = rows()
    names = [f"f{number}" for number in range(6)]
    figure = plot_features(explanation, names, count=4, sample=1, index=1)
    relevance = explanation.relevance[1, 1]
    order = relevance.abs().argsort(descending=True).tolist()
    found = texts(figure)
    shown = [text.partition(" = ")[0] for text in found if text.partition(" = ")[0] in names]
    assert shown == [names[place] for place in order[:4]]
    assert any("2 other features" in text for text in found)
    assert any(text.endswith(f"{explanation.inputs[1, order[0]]:.4g}") for text in found)


def test_words_are_colored_and_joined():
    explanation = read()
    words = color_words(explanation, ["[CLS]", "un", "##happy", "<b>", "\x1b[2J"], ["bad", "good"])
    torch.testing.assert_close(torch.from_numpy(words.relevance), explanation.relevance[0].sum(1))
    page = words.html()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "good" in page
    assert ">un</span><span" in page
    assert ">happy</span> <span" in page
    console = Console(width=80, force_terminal=True, color_system="truecolor", record=True)
    with console.capture() as captured:
        console.print(words)
    assert "un" in captured.get()
    assert "\x1b[2J" not in captured.get()
    assert len(str(words).splitlines()) == 6
    assert "\x1b" not in str(words)
    assert [space for space, *_ in color_words(explanation, ["Ġa", "b", "Ġc"])._parts] == [0, 0, 1]


def videos() -> relprop.Explanation:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, 2, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 3)).eval()
    return relprop.explain(model, torch.rand(6, 3, 5, 6, 7), 1, method="lrp-epsilon")


@pytest.mark.parametrize(
    ("made", "drawn", "of_all", "more"),
    [
        (volumes, plot_slices, "depth", ""),
        (videos, plot_frames, "frame 4", "4 more maps: <code>explanation.plot()</code>"),
        (signals, plot_signals, "channel 1", ""),
        (rows, plot_features, "feature 0", "2 more samples: <code>explanation.plot(sample=…)</code>"),
    ],
)
def test_the_input_chooses_the_picture(made, drawn, of_all, more):
    explanation = made()
    found = texts(explanation.plot())
    assert found == texts(drawn(explanation))
    assert any(text.startswith(of_all) for text in found)
    assert explanation._repr_png_().startswith(b"\x89PNG")
    page = explanation._repr_html_()
    assert ("data:image/webp;base64," if drawn in (plot_slices, plot_frames) else "data:image/png;base64,") in page
    assert more in page if more else "more" not in page


def test_options_go_to_the_picture():
    assert "lead I" in texts(signals(1).plot(channels=["lead I"], rate=100))
    assert any("sample 2" in text for text in texts(rows().plot(sample=2)))


def test_texts_name_their_picture():
    with pytest.raises(InputError, match="color_words draws texts"):
        read().plot()
    assert read()._repr_html_() is None
    assert read()._repr_png_() is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: plot_slices(signals()), InputError, "Slices need relevance of volumes"),
        (lambda: plot_slices(volumes(), at=(9, 0, 0)), OptionError, "lies outside of a volume of 5×6×7"),
        (lambda: plot_frames(volumes(), count=0), OptionError, "at least one"),
        (lambda: plot_signals(rows()), InputError, "Lines need relevance of signals"),
        (lambda: plot_signals(signals(), channels=["one"]), InputError, "1 names of channels, and 2 channels"),
        (lambda: plot_signals(signals(), rate=-1), OptionError, "positive number of samples per second"),
        (lambda: plot_signals(signals(40)), InputError, "too many for one figure"),
        (lambda: plot_features(volumes()), InputError, "Bars need relevance of rows"),
        (lambda: plot_features(rows(), ["a"]), InputError, "1 names of features, and 6 features"),
        (lambda: plot_features(rows(), sample=3), InputError, "no map 0 of sample 3"),
        (lambda: color_words(volumes(), ["a"]), InputError, "Words need relevance of tokens"),
        (lambda: color_words(read(), ["a"] * 6), InputError, "6 tokens, and relevance of 5"),
        (lambda: color_words(read(), ["a"], index=2), InputError, "no map 2 of text 0"),
    ],
)
def test_what_cannot_be_drawn_is_said(call, error, message):
    with pytest.raises(error, match=message):
        call()
