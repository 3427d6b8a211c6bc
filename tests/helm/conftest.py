"""All tests of the chart need helm."""

import pytest

from tests.helm.programs import HELM
from tests.kubernetes.conftest import require


@pytest.fixture(autouse=True, scope="session")
def helm_is_there() -> None:
    """Skip the tests without helm, or fail."""
    require(HELM)
