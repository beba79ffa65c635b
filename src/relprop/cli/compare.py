"""``relprop compare``: one photo, several methods and models, one picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.markup import escape

from relprop.cli.hints import note_misfit
from relprop.cli.options import model_and_weights, parse_device, parse_options
from relprop.cli.outputs import choose_pictures
from relprop.cli.terminal import complain, describe, note, out, progress
from relprop.cli.tools import Classifier, load_classifier
from relprop.errors import OptionError, TargetError, suggestion
from relprop.explanation import Explanation
from relprop.files import make_folder
from relprop.images import open_photo
from relprop.methods import METHODS, choose_method
from relprop.methods.protocol import AnyMethod
from relprop.text import counted, split_list, split_options, split_weights
from relprop.viz import Framed, Look, Row, comparison_rows, draw_grid, maps_of, save_figure
from relprop.zoo import Own

SLOW = ("score-cam", "ablation-cam", "rise", "lime", "kernel-shap")
"""Methods that run the model about a thousand times or more; they are compared only when they are asked for."""

Methods = Mapping[str, AnyMethod]


@dataclass(frozen=True)
class CompareJob:
    """What the user asked for; ``methods`` is None for all that suit the models."""

    photo: Path
    models: tuple[str, ...]
    weights: tuple[str, ...]
    methods: str | None
    options: tuple[str, ...]
    targets: tuple[str, ...]
    output: Path
    overlay: bool
    whole_photo: bool
    look: Look
    dpi: int
    device: str
    own: Own


@dataclass
class _Outcome:
    """Results of one model: by method an explanation, or the reason why there is none; notes with the methods that gave them."""

    shown: Image.Image | Framed
    results: dict[str, Explanation | str] = field(default_factory=dict[str, Explanation | str])
    notes: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


def compare_methods(job: CompareJob) -> bool:
    """Explain a photo by every method on every model and draw the grid. Return whether there was a map to draw."""
    picture = choose_pictures([job.photo], job.output, "compare")[job.photo]
    photo = open_photo(job.photo)
    for text in photo.notes:
        note(text)
    device, files, methods = parse_device(job.device), weights_of_models(job.models, job.weights), _methods(job)
    classifiers = {label: _classifier(job, name, file, len(files) > 1, device) for label, (name, file) in files.items()}
    outcomes: dict[str, _Outcome] = {}
    with progress(len(files) * len(methods)) as bar:
        task = bar.add_task("Explaining", total=len(files) * len(methods))
        for name, classifier in classifiers.items():
            outcomes[name] = _explain(
                classifier, methods, photo.image, lambda text, done: bar.update(task, description=text, advance=done)
            )
            if job.whole_photo:
                outcomes[name].shown = Framed(photo.image, classifier.loaded.preprocessing.window(photo.image))
    _report(outcomes, named=job.methods is not None)
    maps = sum(isinstance(result, Explanation) for outcome in outcomes.values() for result in outcome.results.values())
    if maps:
        _draw(job, classifiers, outcomes, picture)
        out.print(f"{escape(str(job.photo))}: {counted(maps, 'explanation')} → [bold]{escape(str(picture))}[/]", highlight=False)
    else:
        complain("No method could explain the photo, so there is no picture.")
    return maps > 0


def weights_of_models(models: Sequence[str], weights: Sequence[str]) -> dict[str, tuple[str, Path | None]]:
    """Return the name and the weights of every model by what pictures call it: its name, or as it was typed where several have that name.

    Raises:
        OptionError: A text of ``--weights`` names none of the models, or weights are given twice.
    """
    typed = {text: split_weights(text)[0] for text in models}
    others = weights_by_model(weights, list(typed.values()))
    labels = {text: name if list(typed.values()).count(name) == 1 else text for text, name in typed.items()}
    return {label: model_and_weights(text, others.get(typed[text])) for text, label in labels.items()}


def weights_by_model(texts: Sequence[str], models: Sequence[str]) -> dict[str, Path]:
    """Read ``MODEL=FILE`` texts; with one model, ``FILE`` alone is its.

    Raises:
        OptionError: A text names none of the models.
    """
    found: dict[str, Path] = {}
    for text in texts:
        model = next((name for name in models if text.startswith(f"{name}=")), None)
        if model is None and len(models) > 1:
            raise OptionError(f"--weights {text!r} names none of the models; write MODEL=FILE with one of {', '.join(models)}.")
        found[model or models[0]] = Path(text.removeprefix(f"{model}="))
    return found


def options_by_method(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read ``METHOD:KEY=VALUE`` texts.

    Raises:
        OptionError: A text is of another form.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        head, equals, value = text.partition("=")
        method, colon, key = head.rpartition(":")
        if not (equals and colon and method and key):
            raise OptionError(f"The option {text!r} is not of the form METHOD:KEY=VALUE.")
        found.setdefault(method, {}).update(parse_options([f"{key}={value}"]))
    return found


def _methods(job: CompareJob) -> Methods:
    """Return the methods to compare, by the name that stands over their column."""
    options = options_by_method(job.options)
    if job.methods is None:
        unknown = [name for name in options if name not in METHODS]
        wanted = [name for name in METHODS if name not in SLOW or name in options] + unknown
        return {name: method for name in wanted if (method := _built_or_left_out(name, options)) is not None}
    wanted = list(dict.fromkeys(split_list(job.methods)))
    names = {text: split_options(text)[0] for text in wanted}
    if not wanted:
        raise OptionError("--methods names no method; `relprop methods` lists them.")
    for name in options:
        if name not in names.values():
            raise OptionError(f"--option is for {name!r}, which --methods does not name.{suggestion(name, names.values())}")
    built: dict[str, AnyMethod] = {}
    for text, name in names.items():
        method = choose_method(text, options.get(name, {}))
        label = method.name + text.removeprefix(name)
        if label in built:
            raise OptionError(f"Two of the methods are called {label!r}; give one of them another name in its TOML file.")
        built[label] = method
    return built


def _built_or_left_out(name: str, options: Mapping[str, dict[str, Any]]) -> AnyMethod | None:
    """Build a method that the user did not name; None, with a note, where it needs an option."""
    try:
        return choose_method(name, options.get(name, {}))
    except OptionError as error:
        if name in options:
            raise
        note(f"Left out: {error}")
        return None


def _classifier(job: CompareJob, name: str, weights: Path | None, several: bool, device: Any) -> Classifier:  # noqa: ANN401 - torch's
    try:
        classifier = load_classifier(name, weights, job.targets, device, job.own)
    except TargetError as error:
        raise TargetError(f"{name}: {error}" if several else str(error)) from error
    for text in classifier.loaded.notes:
        note(text)
    return classifier


def _explain(classifier: Classifier, methods: Methods, image: Image.Image, tell: Callable[[str, int], None]) -> _Outcome:
    """Explain by one method after the other; the first that succeeds decides which classes all of them explain."""
    cropped, inputs = classifier.prepare(image)
    outcome, target = _Outcome(cropped), None
    for name, method in methods.items():
        tell(escape(name), 0)
        try:
            explainer = classifier.explainer(method, {})
            explanation = explainer(inputs, classifier.target(explainer, inputs) if target is None else target)
            maps_of(explanation)  # raises where there is nothing to draw
        except Exception as error:  # one method's failure must not lose the others
            outcome.results[name] = describe(error)
        else:
            target = explanation.target
            outcome.results[name] = explanation
            for text in explanation.notes:
                outcome.notes.setdefault(text, []).append(name)
        finally:
            tell(escape(name), 1)
    return outcome


def _report(outcomes: Mapping[str, _Outcome], *, named: bool) -> None:
    """Say what the explanations note, and which methods could not explain which model."""
    for model, outcome in outcomes.items():
        where = f"{model}: " * (len(outcomes) > 1)
        for text, names in outcome.notes.items():
            everywhere = len(names) == sum(isinstance(result, Explanation) for result in outcome.results.values())
            note(where + text if everywhere else f"{where}{', '.join(names)}: {text}")
        made = [result for result in outcome.results.values() if isinstance(result, Explanation)]
        if made and made[0].target is not None:
            note_misfit([made[0].logits.detach().cpu()], made[0].activation, where)
        for name, result in outcome.results.items():
            if isinstance(result, str):
                (complain if named else note)(f"{where}{name} gives no map: {result}")
    slow = [name for name in SLOW if all(name not in outcome.results for outcome in outcomes.values())]
    if slow and not named:
        note(f"Left out, since they take long: {', '.join(slow)}; name them with --methods.")


def _draw(job: CompareJob, classifiers: Mapping[str, Classifier], outcomes: Mapping[str, _Outcome], picture: Path) -> None:
    """Write the grid; a method that was not asked for and explains no model gets no column."""
    kept = {
        name
        for outcome in outcomes.values()
        for name, result in outcome.results.items()
        if job.methods is not None or isinstance(result, Explanation)
    }
    rows: list[Row] = []
    for model, outcome in outcomes.items():
        results = {name: result for name, result in outcome.results.items() if name in kept}
        if any(isinstance(result, Explanation) for result in results.values()):
            labels = classifiers[model].loaded.labels
            rows += comparison_rows(results, [outcome.shown], labels, model=model * (len(outcomes) > 1), look=job.look)
        else:
            reasons = {name: str(result) for name, result in results.items()}
            shown = outcome.shown if isinstance(outcome.shown, Framed) else np.asarray(outcome.shown.convert("RGB"))
            rows.append(Row(reasons, shown, model))
    title = f"{job.photo.name}  ·  {next(iter(outcomes))}" if len(outcomes) == 1 else job.photo.name
    make_folder(picture.parent)
    save_figure(draw_grid(rows, title=title, look=job.look, overlaid=job.overlay), picture, job.dpi)
