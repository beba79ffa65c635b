"""The page: its controls, their layout, and which step each of them takes."""

import os
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import gradio as gr
from gradio.themes import Base, Default

from relprop.app.answers import NO_LAYER, PARTS, Answers
from relprop.app.drop import drop_zone

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
_EMPTY = '<div class="rp-empty">The map appears here; its legend says what red and blue mean.</div>'
_QUEUE = 32
_STEP: dict[str, Any] = {"concurrency_id": "work", "concurrency_limit": 1, "api_visibility": "private"}
"""Of all steps of all windows, one runs at a time; the others wait in a queue."""


def static(name: str) -> str:
    """Return a file of the page."""
    return (files("relprop.app") / "static" / name).read_text("utf-8")


def theme() -> Base:
    """Return the theme: fonts of the system alone, since others would be fetched from elsewhere, and hints dark enough to be read."""
    made = Default(primary_hue="red", neutral_hue="slate", font=_SANS, font_mono=_MONO, radius_size="md")
    return made.set(body_text_color_subdued="*neutral_500")


def head() -> str:
    """Return what the page's head has beside Gradio's."""
    return f"<script>{static('page.js')}</script>"


@dataclass(frozen=True)
class Controls:
    """What users set, from the top down."""

    drop: gr.HTML
    model: gr.Dropdown
    methods: gr.Dropdown
    target: gr.Dropdown
    classes: gr.HTML
    opacity: gr.Slider
    layer: gr.Dropdown


@dataclass(frozen=True)
class Results:
    """What they look at, likewise; ``saved`` is a file on its way to the browser."""

    news: gr.HTML
    viewer: gr.HTML
    region: gr.HTML
    tabulate: gr.Button
    table: gr.HTML
    code: gr.Code
    saved: gr.Textbox


def build(answers: Answers, first: str, methods: tuple[str, ...]) -> gr.Blocks:
    """Return the page.

    Args:
        answers: The steps of users.
        first: The model that is chosen at first.
        methods: The methods that are chosen at first.
    """
    with gr.Blocks(title="relprop", analytics_enabled=False) as page:
        gr.Markdown("# relprop\nWhere did the classifier look, and what counted for its answer?", elem_id="rp-title")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                controls = _controls(answers, first, methods)
            with gr.Column(scale=3, min_width=320):
                results = _results()
        _wire_maps(answers, controls, results)
        _wire_extras(answers, controls, results)
        page.unload(answers.forget)
    page.queue(max_size=_QUEUE, api_open=False)
    return page


def _controls(answers: Answers, first: str, methods: tuple[str, ...]) -> Controls:
    desk = answers.desk
    models = list(desk.models)
    return Controls(
        drop=_html("drop", drop_zone(desk.limits, answers.samples), "drop.js"),
        model=gr.Dropdown(models, value=first, label="Model", visible=len(models) > 1, elem_id="rp-model"),
        methods=gr.Dropdown(list(desk.methods), value=list(methods), multiselect=True, label="Methods", elem_id="rp-methods"),
        target=gr.Dropdown([], label="Class", interactive=False, elem_id="rp-target", info="predicted, or type a name"),
        classes=_html("classes", "", "classes.js"),
        opacity=gr.Slider(0, 1, 0.85, step=0.01, label="Opacity of the map", elem_id="rp-opacity", buttons=[]),
        layer=gr.Dropdown([NO_LAYER], value=NO_LAYER, label="Layer", interactive=False, elem_id="rp-layer"),
    )


def _results() -> Results:
    news, viewer, region = _html("news", ""), _html("viewer", _EMPTY, "viewer.js"), _html("region", "")
    with gr.Accordion("Conservation table: where relevance goes, op by op", open=False, elem_id="rp-trace"):
        tabulate = gr.Button("Compute the table", size="sm", elem_id="rp-tabulate")
        table = _html("table", "")
    with gr.Accordion("Python code that makes the first map", open=False, elem_id="rp-code"):
        code = gr.Code("", language="python", interactive=False, show_label=False, lines=16)
    return Results(news, viewer, region, tabulate, table, code, gr.Textbox(visible="hidden", elem_id="rp-saved"))


def _html(name: str, value: str, script: str | None = None) -> gr.HTML:
    return gr.HTML(value, js_on_load=static(script) if script else None, elem_id=f"rp-{name}", apply_default_css=False)


def _wire_maps(answers: Answers, controls: Controls, results: Results) -> None:
    """What leads to other maps."""
    drop, model, methods, target, layer = controls.drop, controls.model, controls.methods, controls.target, controls.layer
    shown = {**vars(controls), **vars(results)}
    step: dict[str, Any] = {"outputs": [shown[name] for name in PARTS], "show_progress_on": [results.viewer], **_STEP}
    drop.photo(answers.photo, [model, methods, layer], **step)
    drop.sample(answers.sample, [model, methods, layer], **step)
    model.input(answers.model, [model, methods], **step)
    for control in (methods, target, layer):
        control.input(answers.again, [model, methods, target, layer], trigger_mode="always_last", **step)
    controls.classes.choose(answers.choose, [model, methods, layer], **step)


def _wire_extras(answers: Answers, controls: Controls, results: Results) -> None:
    """What is asked of the maps that are there."""
    chosen = [controls.model, controls.methods, controls.target]
    quiet: dict[str, Any] = {"show_progress": "hidden", **_STEP}
    results.viewer.region(answers.region, chosen, results.region, trigger_mode="always_last", **quiet)
    file = results.viewer.save(answers.save, [*chosen, controls.layer, controls.opacity], [results.news, results.saved], **quiet)
    file.success(None, results.saved, None, js="(text) => window.relpropSave(text)", api_visibility="private")
    results.tabulate.click(answers.table, chosen, results.table, **_STEP)
    controls.opacity.change(None, controls.opacity, None, js="(value) => window.relpropOpacity(value)", api_visibility="private")
