# %% [markdown]
# # Evaluate methods on your own masks
#
# Which method finds *your* objects on *your* model? Published rankings are for other photos. If you have masks, you can measure it: one folder of
# photos, one of masks, one call.
#
# We take six photos that come with Python packages, and draw their masks by hand, as polygons and ellipses.

# %%
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import relprop
from relprop.evaluation import Evaluation, choices, evaluate, models, report
from relprop.images import open_photo
from relprop.viz import plot_ranks

skimage = files("skimage") / "data"
MOTORCYCLE = [
    (105, 200), (200, 170), (330, 200), (390, 170), (480, 105), (560, 110), (575, 170), (640, 280), (690, 380), (660, 450), (600, 460),
    (540, 380), (430, 390), (340, 420), (190, 400), (130, 370), (120, 280),
]  # fmt: skip
HOPPER = [
    (170, 60), (230, 15), (340, 20), (372, 90), (365, 260), (340, 320), (420, 345), (512, 430), (512, 600), (0, 600), (0, 430), (90, 370),
    (200, 330), (160, 260),
]  # fmt: skip
OBJECTS = {
    skimage / "coffee.png": (170, 12, 405, 310),  # four numbers are an ellipse, by its box
    skimage / "clock_motion.png": (145, 98, 280, 208),
    files("sklearn") / "datasets/images/flower.jpg": (168, 85, 445, 360),
    skimage / "rocket.jpg": [(310, 145), (320, 128), (331, 145), (338, 402), (304, 402)],
    skimage / "motorcycle_left.png": MOTORCYCLE,
    files("matplotlib") / "mpl-data/sample_data/grace_hopper.jpg": HOPPER,
}

for folder in ("photos", "masks"):
    Path(folder).mkdir()
for path, shape in OBJECTS.items():
    photo = open_photo(path).image
    mask = Image.new("L", photo.size)
    pen = ImageDraw.Draw(mask)
    (pen.ellipse if isinstance(shape, tuple) else pen.polygon)(
        shape, fill=1
    )  # 0 is background, 255 undecided, the rest object
    photo.save(Path("photos", path.name).with_suffix(".png"))
    mask.save(Path("masks", path.name).with_suffix(".png"))

# %% [markdown]
# ## Look before you measure
#
# A mask that is mirrored or shifted gives numbers too, and nobody notices. The green line is the mask as it passes the model's own crop.

# %% alt="The six photos as the model sees them, with the outlines of their masks, and RAP maps over them"
loaded = relprop.zoo.load("efficientnet-lite0")
photos = [open_photo(path).image for path in sorted(Path("photos").iterdir())]
outlines = [
    np.asarray(loaded.preprocessing.crop(Image.open(path), nearest=True).convert("L"))
    for path in sorted(Path("masks").iterdir())
]
crops = [loaded.preprocessing.crop(photo) for photo in photos]
captured = relprop.capture(loaded.model, loaded.preprocessing.zeros(), labels=loaded.labels)
explanations = [
    captured.explainer("rap")(loaded.preprocessing.normalize(crop)[None]) for crop in crops
]
relprop.concatenate(explanations[:3]).plot(images=crops[:3], masks=outlines[:3], smooth=1.5)

# %% [markdown]
# ## Measure
#
# Two metrics, two questions: `segmentation` takes the positive region as a mask and compares it with yours; `outside-inside` asks how much
# relevance lies outside of the object for that inside. `edge` and `random` are controls: a method that does not beat them has found nothing.

# %%
result = evaluate(
    Evaluation(
        data="folder:photos",
        data_options={"masks": "masks"},
        models=models("efficientnet-lite0"),
        methods=choices("rap", "rap-regional", "epsilon-plus", "grad-cam", "edge", "random"),
        metrics=choices("segmentation", "outside-inside"),
        output=Path("results"),
    )
)
print(f"{result.rows} rows, {result.failed} failed")

# %% [markdown]
# The folder `results` holds one row per photo, method and metric, and survives a crash: the same call goes on where it was stopped. `report`
# sums it up. Here are two of its values; `print(found.markdown())` has them all.

# %%
found = report("results", baseline="edge")
masks, sides = (
    found.table("efficientnet-lite0", "segmentation"),
    found.table("efficientnet-lite0", "outside-inside"),
)
print(f"{'':14} {'average precision ↑':26} outside / inside ↓")
for method in ("rap", "rap-regional", "epsilon-plus", "grad-cam", "edge", "random"):
    scores = (
        masks.line(method, "average_precision", "images").score,
        sides.line(method, "all", "images").score,
    )
    print(
        f"{method:14}",
        *(f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]".ljust(26) for score in scores),
    )

# %% [markdown]
# The brackets are 95 % intervals, and with six photos they are wide. Differences on the *same* photos are sharper. Does RAP beat the edge detector?

# %%
for method in ("rap", "grad-cam"):
    gap = masks.line(method, "average_precision", "images").difference
    print(f"{method} minus edge: {gap.value:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]")

# %% tags=["remove-cell"]
assert masks.line("rap", "average_precision", "images").difference.low > 0
assert masks.line("grad-cam", "average_precision", "images").difference.low < 0
assert sides.line("rap-regional", "all", "images").best

# %% [markdown]
# RAP does. For Grad-CAM six photos leave it open: its interval holds zero. The chart of mean ranks compares all pairs at once, and is
# more careful for it: a bar joins methods that six photos cannot tell apart, RAP and the edge detector among them.

# %% alt="Mean ranks of the six methods by average precision, with the critical difference"
(by_precision,) = (ranks for ranks in masks.ranks if ranks.value == "average_precision")
plot_ranks(by_precision.methods, by_precision.difference, title="Average precision, six photos")

# %% [markdown]
# So six photos show the way, and are not enough to choose a method by. Some hundred are; the time is printed before a run by
# `relprop evaluate … --dry-run`.
#
# ## The same from the shell
#
# ```sh
# relprop evaluate --data folder:photos --data-option masks=masks --model efficientnet-lite0 \
#     --methods rap,rap-regional,epsilon-plus,grad-cam,edge,random --metrics segmentation,outside-inside --keep-maps -o results
# relprop report results --baseline edge --html report.html
# ```
#
# `report.html` is one file with sortable tables, ranks and a gallery of all maps, worst first. Boxes in place of masks, class names from
# subfolders, and black-and-white masks: see [Evaluation](../evaluation.md).
