"""Which version this is. `pyproject.toml` says so, for a checkout and for what is installed."""

import tomllib
from importlib import metadata

from clusteragent.lib import processes


def _read() -> str:
    if not processes.IS_CHECKOUT:
        return metadata.version("clusteragent")
    return str(tomllib.loads((processes.ROOT / "pyproject.toml").read_text())["project"]["version"])


# Read once: another version may be installed while this one runs.
VERSION = _read()
# How this program names itself in calls of others.
USER_AGENT = f"clusteragent/{VERSION}"
