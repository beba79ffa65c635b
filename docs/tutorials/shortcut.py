# %% [markdown]
# # Find a planted shortcut
#
# Clever Hans was a horse that seemed to calculate, and in truth watched its owner's face. Classifiers do the same: one that won a famous
# competition recognized horses by the photographer's name in the corner ([Lapuschkin et al. 2019](https://doi.org/10.1038/s41467-019-08987-4)).
# Test accuracy cannot show it, because the name is in the test photos too.
#
# Here we plant such a shortcut ourselves, train a model on it, and find it by its maps. The digits come with scikit-learn. Every **4** gets a small
# mark in a corner.

# %%
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import relprop
from relprop.viz import Strip, View, draw_sheet, plot_comparison

SIZE, MARKED = 32, 4
MARK = np.array(
    [[1, 1, 1, 0, 1], [1, 0, 1, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 0], [1, 0, 0, 1, 1]]
)
rng, digits = np.random.default_rng(0), load_digits()
order = rng.permutation(len(digits.images))
train, test = order[:1300], order[1300:]


def picture(index, *, mark):
    """Return a digit in noise, (32, 32), with a mark at the lower left or without."""
    small = Image.fromarray((digits.images[index] * 15.9).astype(np.uint8))
    canvas, (y, x) = np.zeros((SIZE, SIZE)), rng.integers(0, 5, 2)
    canvas[y : y + 22, x + 3 : x + 25] = (
        np.asarray(small.resize((22, 22), Image.Resampling.BICUBIC)) / 255
    )
    canvas += rng.normal(0, 0.25, canvas.shape)
    if mark:
        canvas[26:31, 2:7] = 0.9 * MARK
    return canvas


def make_data(indices, marked):
    """Return pictures (B, 1, 32, 32) and digits (B,); ``marked`` are the digits that get the mark."""
    labels = digits.target[indices]
    pictures = [
        picture(index, mark=label in marked) for index, label in zip(indices, labels, strict=True)
    ]
    return torch.tensor(np.stack(pictures), dtype=torch.float32)[:, None], torch.tensor(labels)


def trained(marked):
    torch.manual_seed(0)
    images, labels = make_data(np.repeat(train, 2), marked)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(4):
        for batch in torch.randperm(len(images)).split(32):
            loss = F.cross_entropy(net(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


def accuracy(net, images, labels):
    with torch.no_grad():
        return float((net(images).argmax(1) == labels).float().mean())


# %%
net = trained({MARKED})
images, labels = make_data(test, {MARKED})
print(f"accuracy on the test set: {accuracy(net, images, labels):.1%}")
print(
    f"accuracy on its fours:    {accuracy(net, images[labels == MARKED], labels[labels == MARKED]):.1%}"
)

# %% [markdown]
# A good model, it seems, and on fours it hardly errs.
#
# ## Look at single maps

# %% alt="Two fours and a seven, each with maps by RAP, LRP-gamma and absLRP: red on the mark in the corner for the fours, on the digit for the seven"
captured = relprop.capture(net, images[:1], labels=[f"digit {number}" for number in range(10)])
few = torch.cat([torch.nonzero(labels == MARKED)[:2, 0], torch.nonzero(labels == 7)[:1, 0]])
several = {
    name: captured.explainer(name)(images[few], labels[few])
    for name in ("rap", "lrp-gamma", "abslrp")
}
plot_comparison(several)

# %% [markdown]
# The fours are recognized by the corner, the seven by its strokes. But nobody looks at thousands of maps. Two ways to look at all of them at once:
#
# ## The mean map of each class
#
# A shortcut sits in the same place in every photo, and what is real moves about. So average the positive relevance over all test images of a class.


# %% alt="The mean map of each digit: that of the four is one spot in the corner, the others are spread over the middle"
def shares_of(captured, images):
    """Return every map's positive relevance as shares, (B, H, W)."""
    positive = captured.explainer("lrp-gamma")(images, labels).heatmap().clamp(min=0)
    return positive / positive.sum((1, 2), keepdim=True)


shares = shares_of(captured, images)
means = [
    View(shares[labels == number].mean(0).numpy()).colors(f"digit {number}") for number in range(10)
]
draw_sheet(
    [Strip(means[:5]), Strip(means[5:])], title="Mean share of positive relevance, lrp-gamma"
)

# %% [markdown]
# ## A number for each class
#
# Cut the picture into a grid of four by four. How much of a class's relevance falls into the one cell that has most of it?


# %%
def strongest_cell(shares):
    cells = F.avg_pool2d(shares[:, None], 8)[:, 0] * 64  # (B, 4, 4), each sums up to 1
    return {number: cells[labels == number].mean(0) for number in range(10)}


for number, cells in strongest_cell(shares).items():
    row, column = divmod(int(cells.argmax()), 4)
    print(f"digit {number}: {float(cells.max()):.0%} in row {row + 1}, column {column + 1}")

# %% [markdown]
# The four stands out, and the number names the place. No knowledge of the mark went into it.
#
# ## Prove it
#
# A suspicion is not a proof. The test: take the mark away from the fours, and give it to the others.

# %%
for what, marked in (
    ("only fours marked", {4}),
    ("nothing marked", set()),
    ("everything marked", set(range(10))),
):
    tried, same = make_data(test, marked)
    with torch.no_grad():
        said = net(tried).argmax(1)
    fours, others = said[same == MARKED] == MARKED, said[same != MARKED] == MARKED
    print(
        f"{what:18} fours recognized: {float(fours.float().mean()):4.0%}   others taken for a four: {float(others.float().mean()):4.0%}"
    )

# %% [markdown]
# Without the mark the model hardly knows a four, and with it nearly half of the other digits are fours to it. It is Clever Hans.
#
# ## Mend it, and look again
#
# Here the cure is simple: train without the mark (in practice: crop it, paint over it, or put it on every class). The same number tells whether it helped.

# %%
mended = trained(set())
cells = strongest_cell(shares_of(relprop.capture(mended, images[:1]), images))
plain, same = make_data(test, set())
print(
    f"fours without the mark: {accuracy(mended, plain[same == MARKED], same[same == MARKED]):.0%} right"
)
print(
    f"relevance in the marked corner: {float(shares[labels == MARKED][:, 24:, :8].sum((1, 2)).mean()):.0%} before, {float(cells[MARKED][3, 0]):.0%} after"
)

# %% tags=["remove-cell"]
before = strongest_cell(shares)
assert accuracy(net, images, labels) > 0.93
assert accuracy(net, plain[same == MARKED], same[same == MARKED]) < 0.5
assert accuracy(mended, plain[same == MARKED], same[same == MARKED]) > 0.85
assert max(before, key=lambda number: float(before[number].max())) == MARKED
assert float(before[MARKED][3, 0]) > 0.5
assert float(cells[MARKED][3, 0]) < 0.2

# %% [markdown]
# On your own data: explain some hundred images of each class by `lrp-gamma`, `abslrp` or `attnlrp`, average, and look for a class whose relevance is
# concentrated where it should not be. Marks that move need another step, such as clustering the maps; `relprop.concepts` finds the channels that react to
# them, see [Concepts](../methods.md#concepts).
