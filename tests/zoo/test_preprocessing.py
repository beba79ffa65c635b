"""Preprocessing equals that of the libraries whose configs it is read from."""

import numpy as np
import pytest
import torch
from PIL import Image

from relprop.errors import InputError, ModelError
from relprop.zoo import Preprocessing, import_torchvision


@pytest.fixture(params=[(300, 451), (451, 300), (100, 90), (224, 224), (250, 1000)], ids=str)
def image(request):
    """Smooth noise of several shapes, ``(height, width)``."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    return coarse.resize(request.param[::-1], Image.Resampling.BICUBIC)


@pytest.mark.parametrize("name", ["resnet50", "vgg16", "inception_v3", "vit_b_16", "swin_t", "efficientnet_b0"])
def test_equals_torchvision(image, name):
    models = import_torchvision().models
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    ours = Preprocessing.from_torchvision(transforms).tensor(image)
    assert torch.allclose(ours, transforms(image), atol=1e-6)


@pytest.mark.parametrize(
    "name", ["resnet50", "vit_tiny_patch16_224", "convnext_tiny", "tf_efficientnet_b1", "eva02_tiny_patch14_336"]
)
def test_equals_timm(image, name):
    import_torchvision()
    timm = pytest.importorskip("timm")
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    theirs = timm.data.create_transform(**config)(image)
    assert torch.allclose(Preprocessing.from_timm(config).tensor(image), theirs, atol=1e-6)


def huggingface_processors():
    import_torchvision()
    transformers = pytest.importorskip("transformers")
    return {
        "vit": transformers.ViTImageProcessor(),
        "deit": transformers.DeiTImageProcessor(),
        "convnext": transformers.ConvNextImageProcessor(size={"shortest_edge": 224}),
        "convnext-384": transformers.ConvNextImageProcessor(size={"shortest_edge": 384}),
        "clip": transformers.CLIPImageProcessor(),
        "levit": transformers.LevitImageProcessor(),
        "mobilevit": transformers.MobileViTImageProcessor(),
        "beit": transformers.BeitImageProcessor(),
        "bit": transformers.BitImageProcessor(),
    }


@pytest.mark.parametrize("name", ["vit", "deit", "convnext", "convnext-384", "clip", "levit", "mobilevit", "beit", "bit"])
def test_equals_huggingface(image, name):
    """Their resizing works on tensors, ours on images: single pixels differ by rounding."""
    processor = huggingface_processors()[name]
    theirs = processor(image, return_tensors="pt")["pixel_values"][0]
    preprocessing = Preprocessing.from_huggingface(processor.to_dict())
    ours = preprocessing.tensor(image)
    assert ours.shape == theirs.shape
    one_step = preprocessing.scale / min(preprocessing.std)
    assert (ours - theirs).abs().mean() < one_step
    assert (ours - theirs).abs().max() < 6 * one_step


def test_values_follow_scale_mean_std_and_order():
    image = Image.new("RGB", (8, 8), (0, 127, 255))
    lite = Preprocessing((8, 8), 8, scale=1.0, mean=(127.0,) * 3, std=(128.0,) * 3)
    assert torch.allclose(lite.tensor(image)[:, 0, 0], torch.tensor([-127 / 128, 0.0, 1.0]))
    bgr = Preprocessing((8, 8), 8, scale=1.0, mean=(104.0, 117.0, 123.0), std=(1.0,) * 3, channels="BGR")
    assert bgr.tensor(image)[:, 0, 0].tolist() == [255 - 104, 127 - 117, 0 - 123]
    gray = Preprocessing((8, 8), 8, mean=(0.0,), std=(1.0,), channels="L")
    assert gray.tensor(image).shape == (1, 8, 8)


def test_bounds_are_what_black_and_white_become():
    preprocessing = Preprocessing((4, 4), 4)
    low, high = preprocessing.bounds
    for color, bound in (("black", low), ("white", high)):
        assert torch.allclose(preprocessing.tensor(Image.new("RGB", (4, 4), color))[:, 0, 0], torch.tensor(bound), atol=1e-6)


def test_masks_are_cropped_like_images_without_new_values():
    mask = np.zeros((300, 451), dtype=np.uint8)
    mask[100:200, 150:300] = 255
    preprocessing = Preprocessing((224, 224), 256, "bicubic")
    cropped = np.asarray(preprocessing.crop(Image.fromarray(mask), nearest=True))
    smooth = np.asarray(preprocessing.crop(Image.fromarray(mask)))
    assert set(np.unique(cropped)) == {0, 255}
    assert ((cropped > 127) == (smooth > 127)).mean() > 0.98


def test_an_image_too_thin_to_resize_is_refused():
    with pytest.raises(InputError, match="too long and thin"):
        Preprocessing().tensor(Image.new("RGB", (1, 30000)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": "RBG"}, "channel order"),
        ({"interpolation": "cubic"}, "interpolation 'cubic' is unknown"),
        ({"mean": (0.5,)}, "one value per channel"),
    ],
)
def test_wrong_values_are_refused(options, message):
    with pytest.raises(ModelError, match=message):
        Preprocessing(**options)


def test_configs_that_it_cannot_follow_are_refused():
    with pytest.raises(ModelError, match="crop mode 'border'"):
        Preprocessing.from_timm({"input_size": (3, 224, 224), "crop_mode": "border", "crop_pct": 1.0})
    with pytest.raises(ModelError, match="size"):
        Preprocessing.from_huggingface({"size": {"longest_edge": 224}})
