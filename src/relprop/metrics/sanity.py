"""Sanity checks of an explanation: its dependence on the parameters and the class, and the conservation of the explained number."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from relprop import draws
from relprop.errors import InputError
from relprop.metrics.base import Follows, MetricSpec, Need, Statistics, Value, identity
from relprop.metrics.maps import heatmap, wide
from relprop.metrics.perturbation import Model
from relprop.metrics.randomization import randomized_models
from relprop.metrics.seeds import Seeds, draw, generators, normal
from relprop.metrics.sensitivity import Explain
from relprop.metrics.similarity import cosine, similarities

MakeExplain = Callable[[nn.Module], Explain]
"""Model → its explain function."""

ExplainLayers = Callable[[Tensor, Tensor], Mapping[str, Tensor]]
"""Inputs, relevance of the output (shaped like the logits) → relevance of layers and of the input, from the output back."""

SIMILAR = ("spearman", "spearman_abs", "ssim")


def parameter_randomization_update(  # noqa: PLR0913 - options by keyword
    relevance: Tensor,
    inputs: Tensor,
    target: Tensor,
    module: nn.Module,
    make_explain: MakeExplain,
    *,
    mode: str = "cascading",
    layers: Sequence[str] | None = None,
    count: int | None = 8,
    seed: int = 0,
    reinit: str = "normal",
    similarity: Sequence[str] = SIMILAR,
) -> Statistics:
    """Compare each explanation with those of copies of the model whose parameters are random.

    Args:
        relevance: Relevance of the inputs by the original model.
        inputs: ``(B, C, H, W)``; every batch captures every copy anew, so large batches are cheaper.
        target: ``(B,)`` classes, kept for the copies.
        module: The model; it is not changed.
        make_explain: Model → its explain function.
        mode: ``cascading`` from the output back, or ``independent``.
        layers: Module paths; None for all that hold parameters.
        count: Number of layers to compare at, at even distances; None for all.
        seed: Seed of the random parameters.
        reinit: See ``randomization.REINITS``.
        similarity: Keys of ``similarity.SIMILARITIES``.

    Returns:
        ``NAME_curve`` ``(B, layers)`` for each similarity, from the output back; the layers are those of ``randomization.spread``.
    """
    heat, rows = heatmap(relevance, inputs.dim() - 2), list[dict[str, Tensor]]()
    for _, model in randomized_models(module, mode=mode, layers=layers, count=count, seed=seed, reinit=reinit):
        found = heatmap(make_explain(model)(inputs, target).detach(), inputs.dim() - 2).to(heat.device)
        rows.append(similarities(tuple(similarity), heat, found))
    return {f"{name}_curve": torch.stack([row[name] for row in rows], 1) for name in similarity}


def with_means(statistics: Statistics) -> Statistics:
    """Add to each curve its mean over the layers."""
    return {**statistics, **{name.removesuffix("_curve"): curve.nanmean(-1) for name, curve in statistics.items()}}


def random_logit_update(
    relevance: Tensor,
    inputs: Tensor,
    target: Tensor,
    model: Model,
    explain: Explain,
    seeds: Seeds = 0,
    *,
    similarity: Sequence[str] = SIMILAR,
) -> Statistics:
    """Compare each explanation with that of another, random class of the same image.

    Args:
        relevance: Relevance for ``target``.
        inputs: ``(B, C, H, W)``.
        target: ``(B,)`` classes.
        model: Inputs → logits; their width is the number of classes.
        explain: Inputs, target → relevance.
        seeds: Seeds of the other class, one per image or one for all.
        similarity: Keys of ``similarity.SIMILARITIES``.

    Returns:
        Each similarity ``(B,)``.

    Raises:
        InputError: The model has fewer than two classes.
    """
    with torch.no_grad():
        classes = model(inputs[:1]).shape[1]
    if classes < 2:
        raise InputError("The random-logit check needs a model of at least two classes.")
    sources = generators(seeds, len(inputs))
    shift = draw(sources, target, lambda source: draws.integers(1, classes, (), source))
    heat = heatmap(relevance, inputs.dim() - 2)
    other = heatmap(explain(inputs, (target + shift) % classes).detach(), inputs.dim() - 2).to(heat.device)
    return similarities(tuple(similarity), heat, other)


def cosine_convergence_update(inputs: Tensor, model: Model, explain_layers: ExplainLayers, seeds: Seeds = 0) -> Statistics:
    """Return the cosine of the relevance of two random output vectors at each layer; near 1, relevance is independent of the output.

    Args:
        inputs: ``(B, C, H, W)``.
        model: Inputs → logits; their shape is that of the vectors.
        explain_layers: Inputs, relevance of the output → relevance of each layer from the output back, the input's last.
        seeds: Seeds of the two normal vectors, one per image or one for all.

    Returns:
        ``cosine_convergence_curve`` ``(B, layers)`` and its last value, at the input, ``cosine_convergence`` ``(B,)``.
    """
    with torch.no_grad():
        logits = model(inputs)
    sources = generators(seeds, len(inputs))
    first, second = (explain_layers(inputs, normal(sources, logits)) for _ in range(2))
    curve = torch.stack([cosine(first[name].detach(), second[name].detach()) for name in first], 1)
    return {"cosine_convergence_curve": curve, "cosine_convergence": curve[:, -1]}


def conservation_update(relevance: Tensor, absorbed: Tensor, conserved: Tensor) -> Statistics:
    """Return the conservation error ``|Σ relevance + absorbed − conserved| / max(1, |conserved|)``.

    Args:
        relevance: ``(B, …)``.
        absorbed: ``(B,)``: relevance absorbed by constants or biases.
        conserved: ``(B,)``, what they should add up to: ``explanation.conserved``, such as the logit minus the mean of the others where the
            method explains that, or of a method that promises nothing the explained number itself, ``explanation.value``.

    Returns:
        ``conservation_error`` ``(B,)``.
    """
    conserved = wide(conserved)
    total = wide(relevance.flatten(1)).sum(1) + wide(absorbed)
    return {"conservation_error": (total - conserved).abs() / conserved.abs().clamp(min=1)}


def _similar(meaning: str, *, curves: bool) -> tuple[Value, ...]:
    what = {"spearman": "rank correlation", "spearman_abs": "rank correlation of magnitudes", "ssim": "structural similarity"}
    means = tuple(Value(name, "lower", -1, 1, f"{text} {meaning}") for name, text in what.items())
    return (*(Value(f"{value.name}_curve", "lower", -1, 1, f"{value.meaning}, by layer") for value in means if curves), *means)


def _randomization(name: str, mode: str) -> MetricSpec:
    return MetricSpec(
        name=name,
        values=_similar("with the explanation of a model with random parameters", curves=True),
        needs=(Need.RELEVANCE, Need.INPUTS, Need.TARGET, Need.MODULE, Need.MAKE_EXPLAIN),
        update=parameter_randomization_update,
        compute=with_means,
        source="Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 3",
        options={"mode": mode},
        follows=Follows.NUMBER,
    )


CASCADING_RANDOMIZATION = _randomization("cascading-randomization", "cascading")
INDEPENDENT_RANDOMIZATION = _randomization("independent-randomization", "independent")
RANDOM_LOGIT = MetricSpec(
    name="random-logit",
    values=_similar("with the explanation of a random other class", curves=False),
    needs=(Need.RELEVANCE, Need.INPUTS, Need.TARGET, Need.MODEL, Need.EXPLAIN, Need.SEEDS),
    update=random_logit_update,
    compute=identity,
    source="Sixt et al., When Explanations Lie, ICML 2020, section 4",
)
COSINE_CONVERGENCE = MetricSpec(
    name="cosine-convergence",
    values=(
        Value("cosine_convergence_curve", "lower", -1, 1, "cosine of the relevance of two random output vectors, by layer"),
        Value("cosine_convergence", "lower", -1, 1, "the same at the input"),
    ),
    needs=(Need.INPUTS, Need.MODEL, Need.EXPLAIN_LAYERS, Need.SEEDS),
    update=cosine_convergence_update,
    compute=identity,
    source="Sixt et al., When Explanations Lie, ICML 2020, section 4 (cosine similarity convergence)",
    follows=Follows.MAP,  # of random vectors in the place of the output, whatever is explained
)
CONSERVATION = MetricSpec(
    name="conservation",
    values=(Value("conservation_error", "lower", 0, float("inf"), "|Σ relevance + absorbed − conserved| / max(1, |conserved|)"),),
    needs=(Need.RELEVANCE, Need.ABSORBED, Need.CONSERVED),
    update=conservation_update,
    compute=identity,
    source="Bach et al., On Pixel-Wise Explanations by Layer-Wise Relevance Propagation, PLOS ONE 2015, Eq. 2",
    follows=Follows.NUMBER,
)
