"""Processes of this program: how one is started, and how it ends with the one that started it, however that one ends."""

import ctypes
import os
import signal
import sys
from pathlib import Path

# The checkout, if this is one.
ROOT = Path(__file__).resolve().parents[2]
# Otherwise it is installed, and Python finds our packages.
IS_CHECKOUT = (ROOT / "manage.py").is_file()
_PR_SET_PDEATHSIG = 1
# What the names of all our sessions of the database begin with. What they are for follows.
SESSIONS = "clusteragent "


def manage(*words: str) -> list[str]:
    """Return the command line of our command with these words, as a process of ours starts it in every working directory."""
    return [sys.executable, str(ROOT / "manage.py"), *words] if IS_CHECKOUT else module("clusteragent", *words)


def module(name: str, *words: str) -> list[str]:
    """Return the command line of `python -m name` for a package of ours, which works in every working directory."""
    # Where we are installed Python finds us, and there need be no `env`.
    where = ["env", f"PYTHONPATH={python_path()}"] if IS_CHECKOUT else []
    return [*where, sys.executable, "-P", "-m", name, *words]


def python_path() -> str:
    """Return the value of PYTHONPATH with which our packages are found."""
    return os.pathsep.join(filter(None, (str(ROOT) if IS_CHECKOUT else "", os.environ.get("PYTHONPATH"))))


def end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent process ends; exit at once if that has happened already.

    parent: the process ID of the parent, which must have started this process from its main thread.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        sys.exit(1)
