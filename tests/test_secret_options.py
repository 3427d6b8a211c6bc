"""No option that holds a secret is quoted when it is wrong, whoever finds that it is: we, libpq, or a library."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.replicas import MANAGE
from tests.table import table
from tests.webserver import free_port

pytestmark = pytest.mark.processes
HIDDEN = "hush7Hush"
AT = f"@127.0.0.1:{free_port()}/db"
# OpenTelemetry is told of a span.
TRACED = """
from clusteragent.command import errors_in_one_line
with errors_in_one_line():
    import django
    django.setup()
    from clusteragent.lib.traces import span
    with span("work"):
        pass
"""


def said(folder: Path, variable: str, value: str) -> str:
    """Return all that a process prints which has this variable, and traces if it is about them."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "DD_", "CLUSTERAGENT_"))
    }
    environment |= {
        "CLUSTERAGENT_VAR": str(folder),
        "CLUSTERAGENT_KUBERNETES": "off",
        "CLUSTERAGENT_TRACES": str(variable.startswith("OTEL_")),
        "DATABASE_URL": f"postgresql://someone{AT}",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "DJANGO_SETTINGS_MODULE": "clusteragent.settings",
        "PYTHONPATH": str(MANAGE.parent),
    }
    if variable == "DATABASE_URL_FILE":
        del environment["DATABASE_URL"]
    command = str(MANAGE), "check" if variable.startswith("DD_PROMETHEUS") else "status"
    answer = subprocess.run(
        [sys.executable, *(("-c", TRACED) if variable.startswith("OTEL_") else command)],
        env=environment | {variable: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return answer.stdout + answer.stderr


@table(
    ("variable", "value"),
    [
        ("DATABASE_URL", f"postgresql://someone:a@{HIDDEN}{AT}"),
        ("DATABASE_URL", f"postgresql://someone@{HIDDEN}:a{AT}"),
        ("DATABASE_URL", f"postgresql://someone:{HIDDEN}/a{AT}"),
        ("DATABASE_URL", f"postgresql://someone:12/{HIDDEN}{AT}"),
        ("DATABASE_URL", f"postgresql://someone:%zz{HIDDEN}{AT}"),
        ("DATABASE_URL", f"postgres://someone:{HIDDEN}"),
        ("DATABASE_URL", f"mysql://someone:{HIDDEN}{AT}"),
        ("DATABASE_URL", f"host=127.0.0.1 password=a {HIDDEN}"),
        ("DATABASE_URL", f"host=127.0.0.1 password=a {HIDDEN}=x"),
        ("DATABASE_URL", f"host=127.0.0.1 port={HIDDEN}"),
        ("CLUSTERAGENT_DIRECT_DATABASE_URL", f"postgresql://someone:a@{HIDDEN}{AT}"),
        ("DATABASE_URL_FILE", f"postgresql://someone:{HIDDEN}{AT}"),
        ("DD_CLUSTER_AGENT_AUTH_TOKEN_FILE", HIDDEN * 4),
        ("DD_CLUSTER_AGENT_AUTH_TOKEN", HIDDEN),
        ("DD_CLUSTER_AGENT_AUTH_TOKEN", f"{HIDDEN * 4}\nand another line"),
        ("CLUSTERAGENT_LOCAL_TOKEN", HIDDEN),
        ("CLUSTERAGENT_SECRET_KEY", HIDDEN),
        ("CLUSTERAGENT_RUNNER_TOKENS", f"{HIDDEN * 4} {HIDDEN}"),
        ("CLUSTERAGENT_RUNNER_TOKENS_FILE", HIDDEN * 4),
        ("CLUSTERAGENT_WEBHOOK", f"hooks.example.com/{HIDDEN}"),
        ("CLUSTERAGENT_WEBHOOK", f"https://hooks.example.com:port/{HIDDEN}"),
        ("CLUSTERAGENT_ADMIN_URL", f"https://someone:{HIDDEN}@ca.example.com"),
        ("DD_PROMETHEUS_HTTP_SD_CONFIGS", f'[{{"url": "someone:{HIDDEN}@targets"}}]'),
        ("DD_PROMETHEUS_HTTP_SD_CONFIGS", f'[{{"url": "http://targets", "headers": "{HIDDEN}]'),
        ("DD_PROMETHEUS_HTTP_SD_URL", f"someone:{HIDDEN}@targets"),
        ("OTEL_EXPORTER_OTLP_HEADERS", HIDDEN),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"api-key: {HIDDEN}"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"={HIDDEN}"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f'api-key="{HIDDEN}"'),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"api-key=é{HIDDEN}"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"api-key={HIDDEN}%0A"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"api-key={HIDDEN}%0Ax"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"api-key=%C5%82{HIDDEN}"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", f"api-key {HIDDEN}"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", f"receiver/{HIDDEN}"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", f"someone:{HIDDEN}@receiver"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://receiver:port/{HIDDEN}"),
    ],
)
def test_a_wrong_secret_is_refused_by_its_name(tmp_path: Path, variable: str, value: str) -> None:
    words = said(tmp_path, variable, value)
    assert HIDDEN not in words
    # The message names the newer form.
    assert variable.replace("HTTP_SD_URL", "HTTP_SD_CONFIGS") in words
    assert "Traceback" not in words


@table(
    ("variable", "value"),
    [
        ("DATABASE_URL", f"postgresql://someone:{HIDDEN}{AT}"),
        ("DATABASE_URL", f"host=127.0.0.1 port=1 dbname=db user=someone password={HIDDEN}"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"api-key={HIDDEN},other=Basic {HIDDEN}"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://someone:{HIDDEN}@127.0.0.1:1"),
    ],
)
def test_what_is_away_is_told_without_the_secret(tmp_path: Path, variable: str, value: str) -> None:
    words = said(tmp_path, variable, value)
    assert HIDDEN not in words
    assert ("Failed to export" if variable.startswith("OTEL_") else "The database is away") in words
