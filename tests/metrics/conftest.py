"""Some libraries that the metrics are compared with import torchvision, which may need help beside a CPU-only torch."""

from importlib.util import find_spec

from relprop.zoo.torchvision_ops import import_torchvision

if find_spec("torchvision"):
    import_torchvision()
