"""What holds for every test."""

import os
from importlib.util import find_spec

from hypothesis import settings

from relprop.zoo import import_torchvision

# A loaded machine is no failure; and a failure in one run is one in the next.
settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Libraries that the tests compare with import torchvision, which may need help beside a CPU-only torch.
if find_spec("torchvision"):
    import_torchvision()
