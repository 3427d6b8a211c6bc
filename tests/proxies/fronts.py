"""Each sample of a proxy before two replicas, with the same verbs."""

import csv
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from tests.proxies.programs import SAMPLES, haproxy, nginx, pem, placed
from tests.webserver import WebServer, database_url, free_port, serving


class Proxy(WebServer):
    """A proxy, called as a web server is."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connections = []


@contextmanager
def replicas(folder: Path, *ports: str, **options: str) -> Iterator[dict[str, WebServer]]:
    """Run web servers with these options, named as in the samples: AGENTS_1, OPERATORS_2."""
    with ExitStack() as stack:
        servers = {}
        for name in ports:
            (folder / name).mkdir()
            whom = name.partition("_")[0].lower()
            servers[name] = stack.enter_context(serving(database_url(), folder / name, whom=whom, **options))
        yield servers


def addresses(servers: Mapping[str, WebServer]) -> dict[str, str]:
    """Return where the servers listen."""
    return {name: f"127.0.0.1:{server.port}" for name, server in servers.items()}


def trusted(folder: Path) -> Path:
    """Return one file with the certificates of all replicas that have their folders in this one."""
    file = folder / "replicas.pem"
    file.write_text("".join(one.read_text() for one in sorted(folder.glob("*_[12]/cert.pem"))))
    return file


class Front:
    """A sample, and the proxies that it makes: one for each port. Its files are in the folder."""

    ports: tuple[str, ...] = ("AGENTS", "OPERATORS")
    # The port at which TLS ends and begins anew, and replicas' certificates are verified.
    verifies = "OPERATORS"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.proxies = {port: Proxy(free_port()) for port in self.ports}

    @contextmanager
    def before_replicas(self, number: int = 2, **options: str) -> Iterator[dict[str, WebServer]]:
        """Run replicas of each port with these options, and the proxy before them. number: 1 stands for both of the sample."""
        names = [f"{port}_{which}" for port in self.ports for which in (1, 2)[:number]]
        with replicas(self.folder, *names, **options) as servers:
            both = {
                f"{port}_{which}": servers[f"{port}_{min(which, number)}"] for port in self.ports for which in (1, 2)
            }
            with self.running(both):
                try:
                    yield servers
                finally:
                    for proxy in self.proxies.values():
                        proxy.disconnect()

    @contextmanager
    def running(self, servers: Mapping[str, WebServer]) -> Iterator[None]:
        """Run the proxy before the servers."""
        raise NotImplementedError
        yield

    def drain(self) -> None:
        """Begin to drain the first replica."""
        raise NotImplementedError

    def is_drained(self) -> bool:
        """Whether nothing is left at the first replica."""
        raise NotImplementedError


class HAProxy(Front):
    """The sample of HAProxy."""

    @contextmanager
    def running(self, servers: Mapping[str, WebServer]) -> Iterator[None]:
        """Run HAProxy before the servers."""
        listen = {f"PROXY_{port}": f"127.0.0.1:{proxy.port}" for port, proxy in self.proxies.items()}
        files = {
            "PROXY_PEM": pem(next(self.folder.glob("*_[12]"))),
            "PROXY_SOCKET": self.folder / "control",
            "REPLICAS_PEM": trusted(self.folder),
        }
        with haproxy(SAMPLES / "haproxy/haproxy.cfg", self.folder, **listen, **files, **addresses(servers)):
            yield

    def drain(self) -> None:
        """Drain by the control socket."""
        for backend in ("agents", "operators"):
            assert not self._control(f"set server {backend}/replica-1 state drain").strip()

    def is_drained(self) -> bool:
        """Whether no session of either backend is at the first replica."""
        rows = csv.DictReader(self._control("show stat").removeprefix("# ").splitlines())
        return all(row["scur"] == "0" for row in rows if row["svname"] == "replica-1")

    def _control(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(self.folder / "control"))
            stream.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: stream.recv(65536), b"")).decode()


class Nginx(Front):
    """The sample of nginx: TLS of node agents passes through."""

    sample = "nginx.conf"
    _process: "subprocess.Popen[bytes]"
    _workers: list[psutil.Process]

    @contextmanager
    def running(self, servers: Mapping[str, WebServer]) -> Iterator[None]:
        """Run nginx before the servers."""
        listening = [proxy.port for proxy in self.proxies.values()]
        self.config = placed(SAMPLES / "nginx" / self.sample, self.folder, self.places(servers))
        self._first = [address for name, address in addresses(servers).items() if name.endswith("_1")]
        with nginx(self.config, self.folder, *listening) as self._process:
            yield

    def places(self, servers: Mapping[str, WebServer]) -> dict[str, object]:
        """Return what stands in the sample, and the test's own in its place."""
        numbers = {"AGENTS": 5005, "OPERATORS": 5006}
        where, own = addresses(servers), next(self.folder.glob("*_[12]"))
        return {
            **{f"10.0.0.{name[-1]}:{numbers[name[:-2]]}": address for name, address in where.items()},
            **{f"listen {numbers[port]}": f"listen 127.0.0.1:{proxy.port}" for port, proxy in self.proxies.items()},
            "/etc/nginx/clusteragent/cert.pem": own / "cert.pem",
            "/etc/nginx/clusteragent/key.pem": own / "key.pem",
            "/etc/nginx/clusteragent/replicas.pem": trusted(self.folder),
        }

    def drain(self) -> None:
        """Drain by another configuration: new workers take the calls, and those of before end."""
        self._workers = psutil.Process(self._process.pid).children()
        text = self.config.read_text()
        for address in self._first:
            text = text.replace(f"server {address} ", f"server {address} down ")
        self.config.write_text(text)
        self._process.send_signal(signal.SIGHUP)

    def is_drained(self) -> bool:
        """Whether the workers of before have ended."""
        return not any(worker.is_running() for worker in self._workers)


class NginxReencrypting(Nginx):
    """The sample of nginx that ends TLS of node agents, and verifies the replicas' certificates."""

    ports = ("AGENTS",)
    verifies = "AGENTS"
    sample = "reencrypt.conf"


ALL: list[type[Front]] = [HAProxy, Nginx, NginxReencrypting]
