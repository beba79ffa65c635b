"""What the tests of the evaluation run share."""

import pytest

from tests.evaluation.world import make_world


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)
