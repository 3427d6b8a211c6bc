import pytest

from clusteragent.lib.logs import RateLimit
from operators import lockout
from operators.api import authentication


@pytest.fixture(autouse=True)
def _rations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines about refusals that no other test has used up."""
    for module in (authentication, lockout):
        monkeypatch.setattr(module, "_refusals", RateLimit(10))
