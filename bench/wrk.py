"""HTTP load by wrk: keep-alive TLS connections that ask for another node each time."""

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
    """Answers a second, their latency in seconds, and how many were no success."""

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
    """Ask for so many seconds, after a second that does not count. pause: milliseconds of each connection between two calls."""
    last = () if pause is None else ("", str(pause))
    for duration in (1, seconds):
        words = ["wrk", "-t2", f"-c{connections}", f"-d{duration}s", "-s", str(ROOT / "bench" / "wrk.lua"), url]
        done = subprocess.run([*words, "--", *call, str(nodes), *last], capture_output=True, text=True, check=True)
    return Load(**json.loads(done.stdout.splitlines()[-1]))


def storm(url: str, prefix: str, connections: int, *, seconds: int = SECONDS) -> Load:
    """Heartbeats of `prefix1`, `prefix2`, …, each name once, for so many seconds. The same again are of known nodes."""
    words = ["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "-s", str(ROOT / "bench" / "wrk.lua"), url]
    call = ("POST", "/api/v1/clusterchecks/status/", '{"last_change":0}', "0", prefix)
    done = subprocess.run([*words, "--", *call], capture_output=True, text=True, check=True)
    return Load(**json.loads(done.stdout.splitlines()[-1]))


def insist() -> None:
    """Raises SystemExit unless wrk is installed."""
    if not shutil.which("wrk"):
        raise SystemExit("wrk is missing, which makes the HTTP load: apt install wrk, or https://github.com/wg/wrk")
