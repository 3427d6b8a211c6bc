from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth.models import Group

from clusteragent.lib.rations import Ration
from operators import lockout
from operators.api import authentication


@pytest.fixture(autouse=True)
def _rations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines about refusals that no other test has used up."""
    for module in (authentication, lockout):
        monkeypatch.setattr(module, "_refusals", Ration(10))


@pytest.fixture(autouse=True)
def _roles(db: None) -> None:
    """The groups of the migrations, which the flush after a transactional test takes away."""
    if not Group.objects.exists():
        for migration in ("0001_roles", "0002_steering"):
            import_module(f"operators.migrations.{migration}").make_roles(apps, None)
        import_module("operators.migrations.0004_digests").grant_them(apps, None)
