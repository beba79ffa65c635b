# %% [markdown]
# # Which method for which question
#
# There are some fifty methods here. They do not compete; they answer different questions. To see the difference, we need a photo for which we know
# what a good answer is, so we make one: a cat above, a cup of coffee below.

# %%
from importlib.resources import files

import numpy as np
from PIL import Image

import relprop
from relprop.images import open_photo
from relprop.viz import plot_comparison

data = files("skimage") / "data"
cat = open_photo(data / "chelsea.png").image.crop((0, 40, 448, 264))
coffee = open_photo(data / "coffee.png").image.resize((448, 299)).crop((0, 20, 448, 244))
photo = Image.fromarray(np.concatenate([np.asarray(cat), np.asarray(coffee)]))

loaded = relprop.zoo.load("efficientnet-lite0")
crop, images = loaded.preprocessing.crop(photo), loaded.preprocessing.tensor(photo)[None]
captured = relprop.capture(loaded.model, images, labels=loaded.labels)

probabilities = captured.explainer("rap").logits(images).softmax(1)[0]
for share, index in zip(*probabilities.topk(4), strict=True):
    print(f"{float(share):.0%}  {loaded.labels[int(index)]}")

# %% [markdown]
# The model sees both. Every method below explains the same two classes, *espresso* and *tabby*.

# %%
CLASSES = [["espresso", "tabby"]]


def compare(*methods):
    made = {name: captured.explainer(name)(images, CLASSES) for name in methods}
    return plot_comparison(made, [crop], loaded.labels, smooth=1.5)


# %% [markdown]
# ## Which part matters, and for which class?

# %% alt="Maps of espresso and tabby by RAP, regional RAP and absLRP"
compare("rap", "rap-regional", "abslrp")

# %% [markdown]
# `rap` alone is the wrong tool here. It tells what matters from what does not, and what matters for the one class and for the other it hardly
# tells apart: look at its words, *important* and *unimportant*. Of a photo with a single object it draws the best outline, of this one it does not.
#
# `rap-regional` has RAP's compact regions from evidence that depends on the class. `abslrp` is finer, and sets the class against all others.
#
# ## Which pixels carry the logit?

# %% alt="Maps of espresso and tabby by LRP-gamma, epsilon-plus and input times gradient"
compare("lrp-gamma", "epsilon-plus", "input-x-gradient")

# %% [markdown]
# The LRP family hands the logit down from layer to layer. `lrp-gamma` and the composite `epsilon-plus` find eyes and rims. Eyes also appear,
# faintly, in the map of *espresso*: they share early features. `input-x-gradient` is one multiplication by the gradient, and in a deep network mostly noise.
#
# ## Which region, roughly and fast?

# %% alt="Maps of espresso and tabby by Grad-CAM, FinerCAM and Layer-CAM"
compare("grad-cam", "finer-cam", "layer-cam")

# %% [markdown]
# CAMs need one layer's gradient. They are as coarse as that layer, seven cells across, and have no negative side; `finer-cam` is Grad-CAM
# against the most similar classes.
#
# ## Is a map better than nothing?

# %% alt="Maps of espresso and tabby by guided backpropagation, an edge detector and noise"
compare("guided-backprop", "edge", "random")

# %% [markdown]
# `edge` has never seen the model, and looks convincing. It does not change with the class. Guided backpropagation hardly does either.
#
# ## The same as numbers
#
# Half of the answer is known: evidence for *espresso* lies below, evidence for *tabby* above. So let us count which share of each map's positive
# relevance lies in the right half. Chance is 50 %.

# %%
print(f"{'':22} espresso  tabby")
right = {}
for name in (
    "rap", "rap-regional", "abslrp", "sglrp", "lrp-gamma", "lrp-gamma:start=clrp", "epsilon-plus", "deeplift", "input-x-gradient",
    "grad-cam", "finer-cam", "guided-backprop", "edge", "random",
):  # fmt: skip
    positive = captured.explainer(name)(images, CLASSES).heatmap()[0].clamp(min=0)  # (2, 224, 224)
    below = positive[:, 112:].sum((1, 2)) / positive.sum((1, 2))
    right[name] = float(below[0]), 1 - float(below[1])
    print(f"{name:22} {right[name][0]:8.0%} {right[name][1]:6.0%}")

# %% tags=["remove-cell"]
assert min(min(right[name]) for name in ("rap-regional", "abslrp", "sglrp")) > 0.95
assert min(right["lrp-gamma:start=clrp"]) > min(right["lrp-gamma"])
assert right["rap"][1] < 0.7
assert right["input-x-gradient"][1] < 0.5
assert max(map(max, (right["edge"], right["random"]))) < 0.55

# %% [markdown]
# Methods that set a class against the others (`abslrp`, `sglrp`, `rap-regional`, `start=clrp`) answer this question nearly without fault.
# `input-x-gradient` puts more of *tabby* on the cup than on the cat.
#
# One photo is an anecdote. Scores over many of your own are the subject of [the next but one page](masks.md); how the methods did over
# thousands is on [Results](../generated/results.md).
#
# ## In short
#
# | question | take |
# |---|---|
# | Where is the one object? | `rap` |
# | This class or that one? | `rap-regional`, `abslrp`, or any method with `start=clrp` |
# | Which pixels carry the logit? | `lrp-gamma`, `epsilon-plus`; `attnlrp` for transformers |
# | Which region, in a hurry? | `grad-cam`, `finer-cam` |
# | Is it better than nothing? | beside it `edge` and `random` |
