"""What holds for every test."""

import os

from hypothesis import settings

# A loaded machine is no failure; and a failure in one run is one in the next.
settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
