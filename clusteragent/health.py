"""`python -m clusteragent.health`: whether the web servers of this container answer. Without Django, since it runs often.

A replica of `runagent` has no port. It ends by itself when it can't go on, so it is healthy while it lives.
"""

import sys
import urllib.request
from collections.abc import Collection, Sequence
from pathlib import Path

from clusteragent import web
from clusteragent.lib import tls

# Seconds that a server may take.
PATIENCE = 3


def asked(command: Sequence[str]) -> Collection[str]:
    """Return the URLs of the web servers that the container's first process is, becomes or starts. command: its command line."""
    port = int(command[command.index("--port") + 1]) if "granian" in command else None
    servers = web.servers().items()
    return [server.url for name, server in servers if {name, "all"} & {*command} or server.bind[1] == port]


def failure(url: str) -> str:
    """Return why a web server is not healthy; empty when it is."""
    try:
        # No proxy, whatever the environment says. The certificate is this container's own.
        handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls.unverified())
        with urllib.request.build_opener(*handlers).open(f"{url}/healthz", timeout=PATIENCE):
            return ""
    except OSError as error:
        return f"{url}/healthz: {error}"


def main() -> None:
    """Ask them. Raises SystemExit, with what is wrong."""
    command = Path("/proc/1/cmdline").read_text().split("\0")
    if failures := list(filter(None, map(failure, asked(command)))):
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
