"""`python -m clusteragent.health`: whether the web servers of this container answer. Without Django, since it runs often.

The role is looked for among all processes, as the first one may be an init. A replica of `runagent` has no port. It ends by
itself when it can't go on, so it is healthy while it lives.
"""

import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePath

from clusteragent import web
from clusteragent.lib import tls

# Seconds that a server may take.
PATIENCE = 3
# The commands that run for long, and the web servers that each becomes or starts. `serve` names its own.
ROLES = {
    "agents": ("agents",), "operators": ("operators",), "all": ("agents", "operators"), "start": ("agents", "operators"),
    "runagent": (), "migrate": (),
}  # fmt: skip


def asked(command: Sequence[str]) -> set[str] | None:
    """Return the URLs of the web servers that a process with this command line is, becomes or starts; None if it is no role."""
    words = list(command)
    if web.LISTENER in words:
        host, port = words[words.index(web.LISTENER) + 2 :][:2]
        return {web.url(host, int(port))}
    program = next((place for place, word in enumerate(words[:4]) if _is_ours(word)), len(words))
    match words[program + 1 :]:
        case ["serve", port, *_] if port in web.servers():
            names: Sequence[str] = (port,)
        case [role, *_] if role in ROLES:
            names = ROLES[role]
        case _:
            return None
    return {web.servers()[name].url for name in names}


def _is_ours(word: str) -> bool:
    return PurePath(word).name in {"clusteragent", "manage.py"}


def commands() -> Iterator[list[str]]:
    """Yield the command line of each process in this container. Its first one may be any program that starts the role.

    Where containers share their processes, those of others have another view of the files.
    """
    ours = _mounts(Path("/proc/self"))
    for process in Path("/proc").glob("[0-9]*"):
        # It may have ended meanwhile.
        with suppress(OSError):
            if _mounts(process) == ours:
                yield (process / "cmdline").read_text(errors="replace").split("\0")


def _mounts(process: Path) -> Path | None:
    """Return the mount namespace of a process, None where it is not told."""
    try:
        return (process / "ns/mnt").readlink()
    except OSError:
        return None


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
    roles = [urls for command in commands() if (urls := asked(command)) is not None]
    if not roles:
        sys.exit("no process here is a role of clusteragent")
    if failures := list(filter(None, map(failure, sorted(set().union(*roles))))):
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
