from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth.models import Group


@pytest.fixture(autouse=True)
def _roles(db: None) -> None:
    """The groups of the migration, which the flush after a transactional test takes away."""
    if not Group.objects.exists():
        import_module("operators.migrations.0001_roles").make_roles(apps, None)
