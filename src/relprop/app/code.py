"""The Python code that makes one map of the app without the app."""

from pathlib import PurePath

from relprop.app.served import Served
from relprop.zoo import LoadedModel


def code_of(served: Served, photo: str, method: str, target: int, class_name: str, layer: str | None) -> str:
    """Return a program that explains a photo's class as the app does, and writes its picture and its array.

    Args:
        served: The model, by the name that loads it.
        photo: The name of the photo's file.
        method: The method with its options.
        target: The class.
        class_name: Its name, for a comment.
        layer: A module whose relevance is wanted too.
    """
    stem = PurePath(photo).stem
    layers = f", layers={[layer]!r}" if layer else ""
    lines = [
        "import relprop",
        "",
        f"loaded = relprop.zoo.load({served.name!r})",
        f"photo = relprop.images.open_photo({photo!r}).image",
        *_preprocessing(served),
        "cropped = preprocessing.crop(photo)",
        "inputs = preprocessing.normalize(cropped)[None]",
        "",
        f"captured = relprop.capture(loaded.model, preprocessing.zeros(){_head(served.loaded)})",
        f"explainer = captured.explainer({method!r})",
        f"explanation = explainer(inputs, {target}{layers})  # {_comment(class_name)}",
        "",
        f"explanation.save({f'{stem}.png'!r}, images=[cropped], labels=loaded.labels)",
        f"explanation.save({f'{stem}.npy'!r})  # (1, C, H, W)",
    ]
    return "\n".join(lines) + "\n"


def _preprocessing(served: Served) -> list[str]:
    """Take the model's own preprocessing, or write out the one that options of the command line made of it."""
    if not served.adapted:
        return ["preprocessing = loaded.preprocessing"]
    return [f"preprocessing = relprop.zoo.{served.loaded.preprocessing!r}"]


def _head(loaded: LoadedModel) -> str:
    """Write the arguments of the capture that say what is explained."""
    said = {"output": loaded.output, "activation": loaded.activation}
    return "".join(f", {name}={value!r}" for name, value in said.items() if value)


def _comment(name: str) -> str:
    return "".join(mark for mark in name if mark.isprintable())
