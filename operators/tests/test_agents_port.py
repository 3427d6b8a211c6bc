"""The agents' port knows nothing of operators: neither their code, nor what pages need, nor their tokens."""

import os
import string
import subprocess
import sys

import pytest

from operators.roles import Role
from operators.tests.cast import having

pytestmark = pytest.mark.django_db

PEOPLES = {
    "operators", "unfold", "knox", "drf_spectacular", "drf_spectacular_sidecar", "django_filters", "whitenoise", "csp",
    "django_ace", "django.contrib.admin", "django.contrib.sessions", "django.contrib.messages", "django.contrib.staticfiles",
    "django.contrib.auth.models", "django.contrib.contenttypes", "rest_framework.views",
}  # fmt: skip
LOADED = """
import sys
import clusteragent.asgi
print(*sorted(sys.modules))
"""


def on_the_agents_port(*words: str) -> str:
    """What a process of that port prints."""
    ran = subprocess.run(
        [sys.executable, *words],
        env=os.environ | {"CLUSTERAGENT_PORT": "agents", "CLUSTERAGENT_SECRET_KEY": string.ascii_letters},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_agents_port_loads_nothing_of_it() -> None:
    loaded = set(on_the_agents_port("-c", LOADED).split())
    assert {"nodes.views", "checks.views"} <= loaded, "the first call would load them, while others wait"
    assert not loaded & PEOPLES


@pytest.mark.parametrize("more", [(), ("--deploy",)])
def test_its_settings_are_sound(more: tuple[str, ...]) -> None:
    """Django checks what belongs to the apps that this port has."""
    assert on_the_agents_port("manage.py", "check", "--fail-level", "WARNING", *more).startswith(
        "System check identified no issues"
    )


@pytest.mark.urls("clusteragent.urls.agents")
@pytest.mark.parametrize(
    "path",
    [
        "/version", "/api/v1/clusterchecks", "/api/v1/clusterchecks/configs/ash", "/v1/api/endpointschecks/configs",
        "/api/operator/v1/configs",
    ],
)  # fmt: skip
def test_an_operators_token_opens_nothing_there(path: str) -> None:
    caller = having(*Role)
    assert caller.client.get(path, headers=caller.headers).status_code == 403
