"""The page: its controls, their layout, and which step each of them takes."""

import os
from importlib.resources import files

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import gradio as gr

from relprop.app.answers import NO_LAYER, PARTS, Answers
from relprop.app.drop import drop_zone

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
_EMPTY = '<div class="rp-empty">The map appears here; its legend says what red and blue mean.</div>'
_QUEUE = 32
_WORK = "model"
"""One step that computes runs at a time; the others wait in a queue."""


def static(name: str) -> str:
    """Return a file of the page."""
    return (files("relprop.app") / "static" / name).read_text("utf-8")


def theme() -> gr.themes.Base:
    """Return the theme: fonts of the system alone, since others would be fetched from elsewhere."""
    return gr.themes.Default(primary_hue="red", neutral_hue="slate", font=_SANS, font_mono=_MONO, radius_size="md")


def head() -> str:
    """Return what the page's head has beside Gradio's."""
    return f"<script>{static('page.js')}</script>"


def build(answers: Answers, first: str, methods: tuple[str, ...]) -> gr.Blocks:
    """Return the page.

    Args:
        answers: The steps of users.
        first: The model that is chosen at first.
        methods: The methods that are chosen at first.
    """
    desk = answers.desk
    with gr.Blocks(title="relprop", analytics_enabled=False) as page:
        gr.Markdown("# relprop\nWhere did the classifier look, and what counted for its answer?", elem_id="rp-title")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                drop = gr.HTML(
                    drop_zone(desk.limits, answers.samples),
                    js_on_load=static("drop.js"),
                    elem_id="rp-drop",
                    apply_default_css=False,
                )
                model = gr.Dropdown(
                    list(desk.models), value=first, label="Model", visible=len(desk.models) > 1, elem_id="rp-model"
                )
                chosen = gr.Dropdown(
                    list(desk.methods), value=list(methods), multiselect=True, label="Methods", elem_id="rp-methods"
                )
                target = gr.Dropdown([], label="Class", interactive=False, elem_id="rp-target", info="predicted, or type a name")
                classes = gr.HTML("", js_on_load=static("classes.js"), elem_id="rp-classes", apply_default_css=False)
                opacity = gr.Slider(0, 1, 0.85, step=0.01, label="Opacity of the map", elem_id="rp-opacity", buttons=[])
                layer = gr.Dropdown([NO_LAYER], value=NO_LAYER, label="Layer", interactive=False, elem_id="rp-layer")
            with gr.Column(scale=3, min_width=320):
                news = gr.HTML("", elem_id="rp-news", apply_default_css=False)
                viewer = gr.HTML(_EMPTY, js_on_load=static("viewer.js"), elem_id="rp-viewer", apply_default_css=False)
                region = gr.HTML("", elem_id="rp-region", apply_default_css=False)
                with gr.Accordion("Conservation table: where relevance goes, op by op", open=False, elem_id="rp-trace"):
                    tabulate = gr.Button("Compute the table", size="sm", elem_id="rp-tabulate")
                    table = gr.HTML("", apply_default_css=False)
                with gr.Accordion("Python code that makes the first map", open=False, elem_id="rp-code"):
                    code = gr.Code("", language="python", interactive=False, show_label=False, lines=16)
        saved = gr.Textbox(visible="hidden", elem_id="rp-saved")
        parts = dict(zip(PARTS, (drop, news, viewer, region, classes, target, layer, table, code), strict=True))
        steps = {"concurrency_id": _WORK, "concurrency_limit": 1, "api_visibility": "private"}
        everything = {"outputs": list(parts.values()), **steps}
        drop.photo(answers.photo, [model, chosen, layer], show_progress_on=[viewer], **everything)
        drop.sample(answers.sample, [model, chosen, layer], show_progress_on=[viewer], **everything)
        model.input(answers.model, [model, chosen], show_progress_on=[viewer], **everything)
        for control in (chosen, target, layer):
            control.input(
                answers.again, [model, chosen, target, layer], show_progress_on=[viewer], trigger_mode="always_last", **everything
            )
        classes.choose(answers.choose, [model, chosen, layer], show_progress_on=[viewer], **everything)
        viewer.region(
            answers.region, [model, chosen, target], region, show_progress="hidden", trigger_mode="always_last", **steps
        )
        viewer.save(
            answers.save, [model, chosen, target, layer, opacity], [news, saved], show_progress="hidden", **steps
        ).success(None, saved, None, js="(text) => window.relpropSave(text)", api_visibility="private")
        tabulate.click(answers.table, [model, chosen, target], table, **steps)
        opacity.change(None, opacity, None, js="(value) => window.relpropOpacity(value)", api_visibility="private")
        page.unload(answers.forget)
    page.queue(max_size=_QUEUE, api_open=False)
    return page
