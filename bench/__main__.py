"""`python -m bench [question …]`: run the benchmarks on a PostgreSQL of their own, print a table, write results.json."""

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from bench import wrk
from bench.report import Report, header
from clusteragent.lib import postgres

QUESTIONS = (
    "heartbeats",
    "tokens",
    "storm",
    "overload",
    "configs",
    "load",
    "cut",
    "dispatching",
    "domains",
    "locking",
    "passes",
    "balancing",
    "rebalancing",
    "leader",
    "silence",
    "deaths",
    "rollouts",
    "handovers",
    "peer",
    "pods",
    "stats",
    "history",
    "metrics",
    "admin",
    "kubernetes",
)


def main() -> None:
    """Start PostgreSQL, answer the questions of the command line, and stop it again."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "questions", nargs="*", metavar="question", help="one of " + ", ".join(QUESTIONS) + "; default: all"
    )
    asked = parser.parse_args().questions or QUESTIONS
    for question in set(asked) - set(QUESTIONS):
        parser.error(f"there is no question {question}, there are {', '.join(QUESTIONS)}")
    if {"heartbeats", "configs", "storm", "overload"} & set(asked):
        wrk.require_wrk()
    # SIGTERM raises an exception as Ctrl-C does, so that everything that was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="clusteragent-bench-"))
    pgdata = folder / "pgdata"
    postgres.initialise(pgdata)
    postgres.start(pgdata, "max_connections=300", "shared_buffers=512MB")
    os.environ |= {
        "DATABASE_URL": postgres.url(pgdata),
        "DJANGO_SETTINGS_MODULE": "clusteragent.settings",
        "CLUSTERAGENT_VAR": str(folder / "var"),
        "DD_CLUSTER_AGENT_AUTH_TOKEN": "bench-token-of-the-node-agents-0123",
        "CLUSTERAGENT_LOCAL_TOKEN": "bench-token-of-the-local-routes-0123",
        "CLUSTERAGENT_SECRET_KEY": "bench-key-that-signs-nothing-of-value",
        "DD_LOG_LEVEL": "error",
    }
    try:
        measure(asked)
    finally:
        postgres.stop(pgdata, "immediate")
        shutil.rmtree(folder, ignore_errors=True)


def measure(questions: tuple[str, ...] | list[str]) -> None:
    """Migrate the database, run each question's module, and write results.json after each."""
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    report = Report()
    print(header())
    for question in questions:
        importlib.import_module(f"bench.{question}").run(report)
        report.write(Path(__file__).parent / "results.json")


main()
