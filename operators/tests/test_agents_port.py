"""The agents' port knows nothing of operators: neither their code nor their tokens."""

import os
import subprocess
import sys

import pytest

from operators.roles import Role
from operators.tests.cast import having

pytestmark = pytest.mark.django_db

LOADED = """
import sys
import clusteragent.asgi
from clusteragent.urls import agents
print([name for name in sys.modules if name.partition(".")[0] in
       {"operators", "knox", "drf_spectacular", "drf_spectacular_sidecar", "django_filters"}])
"""


def test_the_agents_port_loads_nothing_of_it() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LOADED],
        env=os.environ | {"CLUSTERAGENT_PORT": "agents"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "[]\n", ran.stderr


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
