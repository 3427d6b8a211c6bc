"""`python -m clusteragent.listener PORT HOST NUMBER`: the process of a web server, which starts its workers. Without Django.

granian's workers read the certificate when they start, and never again. So new workers take the place of the old ones when its
files change: each begins to listen before the one that it replaces ends the calls that it has, and closes its connections.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

import structlog
from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops, SSLProtocols
from granian.log import LogLevels

from clusteragent import web
from clusteragent.lib import certificates, conf, logs, processes
from clusteragent.lib.files import CredentialsError

# Seconds between two looks at the files, and between two looks at how long a certificate of ours still holds.
EACH, RENEWED_EACH = 2.0, 3600.0

log = structlog.get_logger()


class Held:
    """The certificate and key that workers read: a copy in memory, which stays whole whatever happens to the files."""

    def __init__(self, pair: certificates.Pair) -> None:
        """Read the files. Raises CredentialsError."""
        self._pair, self._descriptors = pair, list[int]()
        self._seen = self._state()
        self._usable = certificates.read(pair)
        self.path = self._kept(self._usable)

    def is_changed(self) -> bool:
        """Whether the files changed since the last call, and are another certificate. Logs what can't be used."""
        state = self._state()
        if state == self._seen:
            return False
        self._seen = state
        found = self._read()
        return found is not None and found != self._usable

    def take(self) -> None:
        """Take up what the files have, if it can be used."""
        if found := self._read():
            self._usable, self.path = found, self._kept(found)
            log.info("certificate_taken_up", file=str(self._pair.certificate), valid_until=_until(found))

    def _read(self) -> certificates.Usable | None:
        try:
            return certificates.read(self._pair)
        except CredentialsError as error:
            log.warning("certificate_refused", error=str(error), kept_until=_until(self._usable))
            return None

    def _kept(self, usable: certificates.Usable) -> str:
        # A worker that just started may not have read the one before yet.
        while len(self._descriptors) > 1:
            os.close(self._descriptors.pop(0))
        self._descriptors.append(os.memfd_create("certificate"))
        os.write(self._descriptors[-1], usable.pem)
        return f"/proc/{os.getpid()}/fd/{self._descriptors[-1]}"

    def _state(self) -> list[tuple[int, ...] | str]:
        """What changes with the files, also where a link leads to others."""
        found: list[tuple[int, ...] | str] = []
        for path in self._pair:
            try:
                status = path.stat()
                found.append((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError as error:
                found.append(str(error))
        return found


def _until(usable: certificates.Usable) -> str:
    return usable.certificate.not_valid_after_utc.isoformat()


def show(served: Granian, held: Held) -> None:
    """Let workers that start from now on show this certificate."""
    # What its build_ssl_context() sets. That would follow the link to a file that has no name.
    served.ssl_ctx = True, held.path, held.path, None, str(SSLProtocols.tls12), None, [], False


def watch(held: Held, reload: Callable[[], None]) -> NoReturn:
    """Reload when the certificate's files change, and renew a certificate of ours."""
    renewed = time.monotonic()
    while True:
        time.sleep(EACH)
        try:
            if not certificates.own() and time.monotonic() - renewed > RENEWED_EACH:
                renewed = time.monotonic()
                certificates.renew(conf.VAR)
            if held.is_changed():
                reload()
        except (OSError, CredentialsError) as error:
            log.warning("certificate_not_renewed", error=str(error))


def server(port: str, host: str, number: int) -> Granian:
    """Return the web server `port` (agents or operators) that will listen there."""
    return Granian(
        # A target that is a file: nothing is imported from the folder that this is called in.
        f"{processes.ROOT / 'clusteragent' / 'asgi.py'}:application",
        address=host,
        port=number,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        workers=web.servers()[port].workers,
        loop=Loops.asyncio,
        websockets=False,
        # `backpressure` is the most connections of a process.
        backlog=4096,
        backpressure=65536,
        respawn_failed_workers=True,
        # Seconds that a new worker has to begin before the one is stopped that it replaces: it loads for two, or for longer where
        # other programs take the processor's time.
        respawn_interval=8,
        workers_kill_timeout=3,
        working_dir=processes.ROOT,
        log_level=LogLevels.error,
        # The log has no headers and no bodies, so no tokens. Node agents call a hundred times as often as operators.
        log_access=port == "operators" or conf.ACCESS_LOG,
        log_access_format='%(addr)s "%(method)s %(path)s" %(status)d %(dt_ms).1f ms',
    )


def main() -> None:
    """Serve until a signal ends it."""
    port, host, number = sys.argv[1:]
    served = server(port, host, int(number))
    # After granian's own, of which the levels stay.
    logs.configure(logs.config())
    pair = certificates.served()
    if not pair:
        sys.exit(f"{conf.VAR} has no certificate")
    try:
        held = Held(pair)
    except CredentialsError as error:
        sys.exit(str(error))

    def take() -> None:
        held.take()
        show(served, held)

    show(served, held)
    served.on_reload(take)
    watching = threading.Thread(target=watch, args=(held, served.signal_handler_reload), daemon=True)
    watching.start()
    served.serve()


if __name__ == "__main__":
    main()
