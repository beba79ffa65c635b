# %% [markdown]
# # A medical-style 3-D volume
#
# Nothing in relprop is bound to photos: a volume is an input like any other. We make volumes that look a little like scans, train a small 3-D
# network to say whether there is a lesion, and ask where it sees one. The volumes are synthetic, so that we know the answer, and so that nothing
# has to be downloaded; this page shows how it is done, and says nothing about real scans.

# %%
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

import relprop
from relprop.viz import Look, Marks, Strip, View, draw_sheet, plot_slices

SIZE = 24
rng = np.random.default_rng(0)
depth, height, width = np.mgrid[:SIZE, :SIZE, :SIZE]


def make_volume(*, sick):
    """Soft tissue in an ellipsoid, a bright vessel through it, and a lesion as bright as the vessel; with the lesion's mask."""
    center, radii = SIZE / 2 + rng.uniform(-1, 1, 3), 0.42 * SIZE * rng.uniform(0.9, 1.1, 3)
    body = (
        sum(
            ((axis - c) / r) ** 2
            for axis, c, r in zip((depth, height, width), center, radii, strict=True)
        )
        < 1
    )
    volume = body * (0.5 + 0.8 * gaussian_filter(rng.normal(size=body.shape), 2))
    (y, x), (down, across) = rng.uniform(8, 16, 2), rng.uniform(-0.4, 0.4, 2)
    vessel = (height - y - down * (depth - 12)) ** 2 + (
        width - x - across * (depth - 12)
    ) ** 2 < 1.6
    volume[vessel & body] += 0.4
    lesion = np.zeros_like(body)
    if sick:
        z, y, x = center + rng.uniform(-0.45, 0.45, 3) * radii
        lesion = (depth - z) ** 2 + (height - y) ** 2 + (width - x) ** 2 < rng.uniform(
            2.4, 3.2
        ) ** 2
        volume[lesion] += 0.4
    return volume + rng.normal(0, 0.05, body.shape), lesion


def make_data(count):
    """Return volumes (B, 1, D, H, W), labels (B,), and masks (B, D, H, W); every other one has a lesion."""
    volumes, lesions = zip(
        *(make_volume(sick=bool(number % 2)) for number in range(count)), strict=True
    )
    scaled = (torch.tensor(np.stack(volumes), dtype=torch.float32)[:, None] - 0.3) / 0.3
    return scaled, torch.arange(count) % 2, torch.from_numpy(np.stack(lesions))


# %% [markdown]
# ## Train
#
# The lesion is as bright as the vessel: brightness alone is not enough, the network has to tell a ball from a tube.

# %%
torch.manual_seed(0)
volumes, labels, _ = make_data(320)
net = nn.Sequential(
    nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2),
    nn.Conv3d(8, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU(),
    nn.Conv3d(16, 32, 3, padding=1), nn.BatchNorm3d(32), nn.ReLU(),
    nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(32, 2),
)  # fmt: skip
optimizer = torch.optim.Adam(net.parameters(), 3e-3)
for _ in range(8):
    for batch in torch.randperm(len(volumes)).split(20):
        loss = nn.functional.cross_entropy(net(volumes[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
net.eval()

unseen, truth, lesions = make_data(100)
with torch.no_grad():
    right = net(unseen).argmax(1) == truth
print(f"right on {int(right.sum())} of {len(right)} new volumes")

# %% [markdown]
# ## Explain
#
# The same two lines as for a photo. The map has the volume's shape.

# %%
captured = relprop.capture(net, unseen[:1], labels=["healthy", "lesion"])
sick = torch.nonzero(right & (truth == 1))[:, 0][:20]
explanation = captured.explainer("lrp-gamma")(unseen[sick], "lesion")
explanation.heatmap().shape  # (B, D, H, W)

# %% [markdown]
# A screen shows slices. `plot_slices` draws the three planes through the voxel with the most relevance, all in one scale, here up to the
# largest value.

# %% alt="The planes of a volume along depth, height and width, each beside its map, which is red where the lesion is"
plot_slices(explanation[:1], explanation.labels, percentile=100)

# %% [markdown]
# The vessel, as bright as the lesion, stays pale. In a notebook the explanation itself is a picture, with a slider over the slices of each axis:
# move them through the next volume.

# %%
explanation[1:2]

# %% [markdown]
# For any other cut there is `View`, one map with its picture, and a sheet that lays views side by
# side. Here is a run of slices of that volume, with the true lesion in green: it shows how deep the red goes, and the end of a vessel that counts
# *against* a lesion.


# %% alt="Eight axial slices through the lesion, with the map over them"
def pixels(plane):
    """Return a slice of a volume as gray bytes (H, W, 3)."""
    gray = np.clip((plane * 0.3 + 0.3) / 1.2, 0, 1) * 255
    return np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)


heat, volume, lesion = (
    explanation.heatmap()[1].numpy(),
    unseen[sick[1], 0].numpy(),
    lesions[sick[1]].numpy(),
)
middle, look = int(heat.sum((1, 2)).argmax()), Look(limit=float(np.abs(heat).max()))
slices = [
    View(
        heat[z],
        pixels(volume[z]),
        look,
        explanation.meaning,
        marks=Marks(((lesion[z] * 1.0, "#1f7a3d"),)),
    ).overlay(f"slice {z}")
    for z in range(middle - 4, middle + 4)
]
draw_sheet([Strip(slices[:4]), Strip(slices[4:])], title="lrp-gamma, lesion, slice by slice")

# %% [markdown]
# ## How good are the maps?
#
# With twenty volumes and their masks we can count: how often does the strongest voxel lie in the lesion, and which share of the positive
# relevance does? By chance both are the lesion's share of the volume.

# %%
inside_of = {}
print(f"{'':20} strongest voxel inside   relevance inside")
for name in ("rap", "lrp-gamma", "epsilon-plus", "abslrp", "deeplift", "gradient", "random"):
    positive = captured.explainer(name)(unseen[sick], "lesion").heatmap().clamp(min=0).flatten(1)
    mask = lesions[sick].flatten(1)
    hits = mask.gather(1, positive.argmax(1, keepdim=True)).float().mean()
    inside_of[name] = float(((positive * mask).sum(1) / positive.sum(1)).mean())
    print(f"{name:20} {float(hits):22.0%} {inside_of[name]:18.1%}")
print(f"{'share of the volume':20} {'':22} {float(lesions[sick].float().mean()):18.1%}")

# %% tags=["remove-cell"]
assert right.float().mean() > 0.85
assert inside_of["lrp-gamma"] > 0.4
assert inside_of["lrp-gamma"] > inside_of["rap"]
assert inside_of["random"] < 0.02

# %% [markdown]
# Nearly all find the lesion nearly every time, and `random` shows what chance is. RAP spreads over the surroundings: it marks what the decision
# looked at, and in most cases its strongest voxel lies inside. For small things in large volumes `lrp-gamma` and `epsilon-plus` are the better tools.
#
# A network that is right and looks at the lesion is what we hoped for. The next page is about one that is right and does not.
#
# **For your own volumes:** arrays of MONAI or nibabel are tensors `(B, 1, D, H, W)` after `torch.from_numpy`. Memory grows as for a training step of
# the same batch, so begin with one volume. Class activation maps, `occlusion` and most metrics take volumes too; what is for images alone is refused
# with a sentence.
