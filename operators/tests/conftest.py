import pytest

from clusteragent.lib.logs import RateLimit
from operators import lockout
from operators.api import authentication
from operators.tests.cast import make_missing_roles


@pytest.fixture(autouse=True)
def _rations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines about refusals that no other test has used up."""
    for module in (authentication, lockout):
        monkeypatch.setattr(module, "_refusals", RateLimit(10))


@pytest.fixture(autouse=True)
def _roles(db: None) -> None:
    """The groups of the migrations, which the flush after a transactional test takes away."""
    make_missing_roles()
