"""HTTP load by wrk, over TLS connections that are kept open. Each call is for another node."""

import json
import shutil
import subprocess
from typing import NamedTuple

from bench.report import ROOT

NODES = 10_000
HEARTBEAT = ("POST", "/api/v1/clusterchecks/status/", '{"last_change":7}')
CONFIGS = ("GET", "/api/v1/clusterchecks/configs/", "")
SECONDS = 5


class Load(NamedTuple):
    """Answers a second, quantiles of their latency in seconds, and the number of failed calls."""

    rate: float
    p50: float
    p99: float
    errors: int


def load(
    url: str,
    call: tuple[str, str, str],
    connections: int,
    *,
    nodes: int = NODES,
    seconds: int = SECONDS,
    pause: int | None = None,
) -> Load:
    """Make calls for `seconds`, after one second that does not count. pause: milliseconds between two calls of a connection.

    call: (method, beginning of the path, body).
    """
    last = () if pause is None else ("", str(pause))
    for duration in (1, seconds):
        words = ["wrk", "-t2", f"-c{connections}", f"-d{duration}s", "-s", str(ROOT / "bench" / "wrk.lua"), url]
        done = subprocess.run([*words, "--", *call, str(nodes), *last], capture_output=True, text=True, check=True)
    return Load(**json.loads(done.stdout.splitlines()[-1]))


def storm(url: str, prefix: str, connections: int, *, seconds: int = SECONDS) -> Load:
    """Send heartbeats of `prefix1`, `prefix2`, …, each name once, for `seconds`. In a second call the nodes are known."""
    words = ["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "-s", str(ROOT / "bench" / "wrk.lua"), url]
    call = ("POST", "/api/v1/clusterchecks/status/", '{"last_change":0}', "0", prefix)
    done = subprocess.run([*words, "--", *call], capture_output=True, text=True, check=True)
    return Load(**json.loads(done.stdout.splitlines()[-1]))


def require_wrk() -> None:
    """Raise SystemExit unless wrk is installed."""
    if not shutil.which("wrk"):
        raise SystemExit("wrk is missing, which makes the HTTP load: apt install wrk, or https://github.com/wg/wrk")
