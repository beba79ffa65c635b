# %% [markdown]
# # Why did my model get it wrong?
#
# The photo shows Grace Hopper in the uniform of the United States Navy. EfficientNet-Lite0 knows the class *military uniform*, and yet
# says something else. The question is never only *where did it look*; it is *what spoke for the wrong class, and what for the right one*.

# %%
from importlib.resources import files

import numpy as np

import relprop
from relprop.images import open_photo
from relprop.viz import Strip, Tile, draw_sheet, plot_comparison, plot_contrast

loaded = relprop.zoo.load("efficientnet-lite0")
photo = open_photo(files("matplotlib") / "mpl-data/sample_data/grace_hopper.jpg").image
crop, images = loaded.preprocessing.crop(photo), loaded.preprocessing.tensor(photo)[None]
captured = relprop.capture(loaded.model, images, labels=loaded.labels)

probabilities = captured.explainer("rap").logits(images).softmax(1)[0]
for share, index in zip(*probabilities.topk(4), strict=True):
    print(f"{float(share):.0%}  {loaded.labels[int(index)]}")

# %% [markdown]
# Three classes are nearly tied; two of them belong to a graduation. What made it see one?
#
# ## Choose a method that can answer
#
# Many methods draw nearly the same map for every class: they show what matters, and not for which answer. Look at the three classes side
# by side first.

# %% alt="Maps of academic gown, mortarboard and military uniform by RAP, absLRP and FinerCAM, over the photo"
classes = [["academic gown", "mortarboard", "military uniform"]]
several = {
    name: captured.explainer(name)(images, classes) for name in ("rap", "abslrp", "finer-cam")
}
plot_comparison(several, [crop], loaded.labels, smooth=1.5, overlaid=True)

# %% [markdown]
# RAP finds the cap for the mortarboard, but collar and face matter to it whatever is asked, and its blue says *unimportant*. absLRP and
# FinerCAM set a class against the others, and each class has its own evidence:
#
# * **mortarboard** has the cap, in all three.
# * **military uniform** has the shoulder and the name tag. Against it stands the flag, says absLRP. On the ribbons the two disagree: absLRP
#   has them for other classes, FinerCAM for this one.
# * **academic gown** has the dark cloth at the neck.
#
# ## The predicted class against the true one

# %% alt="absLRP: academic gown, academic gown rather than military uniform, the outline, and the predicted classes"
pair = captured.explainer("abslrp")(images, [["academic gown", "military uniform"]])
plot_contrast(pair, [crop], loaded.labels, smooth=1.5)

# %% [markdown]
# Read the third picture: what is blue is more for *military uniform* than for *academic gown*: the name tag and the ribbons. So the ribbons do
# speak for the uniform when it is set against the gown alone; absLRP's first map had them blue because they speak for some third class even
# more. And red, for the gown, are the cap and the flag.
#
# ## Test it
#
# These are hypotheses, and a model can be asked. We fill a box with the mean color and look at the probabilities again.


# %%
def probability_of(changed):
    share = captured.explainer("rap").logits(changed).softmax(1)[0]
    return {
        name: float(share[relprop.zoo.parse_target(name, loaded.labels)]) for name in classes[0]
    }


boxes = {
    "as it is": (0, 0, 0, 0),
    "cap": (62, 5, 178, 48),
    "ribbons": (150, 178, 224, 224),
    "flag": (0, 20, 60, 130),
}
shares, pictures = {}, []
for what, (left, top, right, bottom) in boxes.items():
    changed = images.clone()
    changed[:, :, top:bottom, left:right] = 0.0  # the mean, after preprocessing
    shares[what] = probability_of(changed)
    pictures.append(changed)
    print(f"{what:10}", *(f"{name} {share:4.0%}  " for name, share in shares[what].items()))

# %% alt="The photo as it is, without the cap, without the ribbons and without the flag, each with its three probabilities"
tiles = [
    Tile(
        np.asarray(loaded.preprocessing.picture(changed[0])),
        what,
        numbers=tuple(f"{name} {share:.0%}" for name, share in said.items()),
    )
    for (what, said), changed in zip(shares.items(), pictures, strict=True)
]
draw_sheet([Strip(tiles)], title="One thing hidden at a time")

# %% tags=["remove-cell"]
best = {what: max(said, key=said.get) for what, said in shares.items()}
assert best["flag"] == "military uniform"
assert best["as it is"] == "academic gown"
assert best["ribbons"] == "mortarboard"
assert shares["ribbons"]["military uniform"] < 0.5 * shares["as it is"]["military uniform"]
assert shares["cap"]["mortarboard"] < 0.5 * shares["as it is"]["mortarboard"]

# %% [markdown]
# * Without the **cap**, *mortarboard* falls to a third, as its maps say. The gray bar costs the other two as well: a hidden place is also
#   something to see, so compare classes, not single numbers.
# * Without the **ribbons**, *military uniform* falls to less than half. The contrast and FinerCAM were right about them, and absLRP's own map of
#   the class was not.
# * Without the **flag**, *military uniform* wins. The blue of that map was true: a flag behind a portrait is what graduation photos have.
#
# That is a diagnosis one can act on: more portraits of soldiers before a flag, or a crop that is closer to the person.
#
# ## The recipe
#
# 1. Print the probabilities. A tie is another problem than a confident error.
# 2. Explain the predicted **and** the true class, by a method that reacts to the class: `abslrp`, `finer-cam`, `rap-regional`, or any method
#    with `start=clrp`; see [which method](methods.md).
# 3. Set one against the other: `relprop explain PHOTO --method abslrp --target "academic gown" --against "military uniform"`.
# 4. Hide what the map names, and look whether the answer follows.
