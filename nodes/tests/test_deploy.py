"""The hook that lets a pod say goodbye, as Kubernetes would run it."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulation.tests.scripted_server import TOKEN, Answer, ScriptedServer, scenario

PATCH = Path(__file__).parents[2] / "deploy" / "kubernetes" / "goodbye.yaml"


def pod() -> dict[str, Any]:
    return yaml.safe_load(PATCH.read_text())["spec"]["template"]["spec"]


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A `sleep` that writes down for how long it was to sleep."""
    sleep = tmp_path / "sleep"
    sleep.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/slept\n')
    sleep.chmod(0o755)
    return tmp_path


async def run_hook(bin_folder: Path, **environment: str) -> int:
    [container] = pod()["containers"]
    path = f"{bin_folder}:{os.environ['PATH']}"
    known = {"PATH": path, "DD_CLUSTER_AGENT_AUTH_TOKEN": TOKEN, "DD_CLC_RUNNER_ID": "runner-7f"} | environment
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    process = await asyncio.create_subprocess_exec(*command, env=known, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait()


@scenario
async def test_the_hook_says_that_the_node_leaves_and_waits(bin_folder: Path) -> None:
    async with ScriptedServer() as server:
        assert await run_hook(bin_folder, DD_CLUSTER_AGENT_URL=f"{server.url}/") == 0
        [request] = server.asked("goodbye")
    assert (request.method, request.target) == ("POST", "/api/v1/clusterchecks/goodbye/runner-7f")
    assert dict(request.headers)["Authorization"] == f"Bearer {TOKEN}"
    assert json.loads(request.body) == {"kind": "leaving"}
    assert int((bin_folder / "slept").read_text()) == 15 < pod()["terminationGracePeriodSeconds"]


@scenario
async def test_the_hook_finds_the_service_that_kubernetes_names(bin_folder: Path) -> None:
    async with ScriptedServer() as server:
        host, _, port = server.url.removeprefix("https://").partition(":")
        service = {"CLUSTERAGENT_SERVICE_HOST": host, "CLUSTERAGENT_SERVICE_PORT": port}
        assert await run_hook(bin_folder, **service) == 0
        assert len(server.asked("goodbye")) == 1


@scenario
async def test_a_goodbye_that_is_refused_holds_nobody_up(bin_folder: Path) -> None:
    async with ScriptedServer() as server:
        server.answer(goodbye=Answer("invalid session token", 403))
        assert await run_hook(bin_folder, DD_CLUSTER_AGENT_URL=server.url) != 0
    assert not (bin_folder / "slept").exists()
