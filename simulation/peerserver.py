"""`python -m simulation.peerserver`: serve the peer's rules to simulated node agents, on a port of the loopback address."""

import asyncio
import json
import os
import signal
import time
from argparse import ArgumentParser, Namespace
from base64 import b64encode
from typing import Any

import h11

from simulation.client import next_event, read_configs
from simulation.peer import WARMUP, NotNowError, Peer
from simulation.runners import VERSION, server_tls, works

ROUTE = "/api/v1/clusterchecks/"


class PeerServer:
    """Serves a peer that has so many configs, each of one instance."""

    def __init__(self, configs: int, seed: int = 0, warmup: float = WARMUP) -> None:
        self._items = [_item(number) for number in range(configs)]
        _, held = read_configs(json.dumps({"configs": self._items}).encode())
        needs = {number: sum(work.workers for work in works(config, seed)) for number, config in enumerate(held)}
        self.peer = Peer(needs, time.time, seed, warmup)
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, port: int) -> None:
        """Serve until cancelled."""
        await asyncio.start_server(self._accept, "127.0.0.1", port, ssl=server_tls(), backlog=1000)
        while True:
            self.peer.work()
            await asyncio.sleep(0.1)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._converse(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        try:
            while isinstance(request := await next_event(http, reader), h11.Request):
                body = b""
                while isinstance(data := await next_event(http, reader), h11.Data):
                    body += data.data
                status, answer = self._answer(request.target.decode(), body)
                content = json.dumps(answer).encode()
                head = h11.Response(status_code=status, headers=[("Content-Length", str(len(content)))])
                events = (head, h11.Data(data=content), h11.EndOfMessage())
                writer.write(b"".join(http.send(event) or b"" for event in events))
                http.start_next_cycle()
        except (OSError, h11.ProtocolError):
            pass
        finally:
            writer.transport.abort()

    def _answer(self, target: str, body: bytes) -> tuple[int, Any]:
        route, _, name = target.removeprefix(ROUTE).partition("/")
        try:
            match route:
                case "status":
                    return 200, {"isuptodate": self.peer.report(name, json.loads(body)["last_change"])}
                case "configs":
                    last_change, held = self.peer.configs(name)
                    return 200, {"last_change": last_change, "configs": [self._items[number] for number in held]}
        except NotNowError as error:
            return error.status, str(error)
        return (200, VERSION) if target == "/version" else (404, "404 page not found")


def _item(number: int) -> dict[str, Any]:
    """A config as the wire has it, of the check that the benchmarks give to us."""
    instance = f"name: service-{number}\nurl: https://service-{number}.example.com/health\n"
    return {
        "check_name": "http_check",
        "instances": [b64encode(instance.encode()).decode()],
        "init_config": b64encode(b"{}").decode(),
    }


async def _serve(server: PeerServer, options: Namespace) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: os._exit(0))
    for after, what in (
        (options.crash_after, server.peer.lose_leader),
        (options.rebalance_after, server.peer.rebalance),
    ):
        if after is not None:
            loop.call_later(after, what)
    await server.serve(options.port)


def main() -> None:
    """Serve as the command line says."""
    parser = ArgumentParser(prog="python -m simulation.peerserver", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--configs", type=int, required=True, help="how many it has")
    parser.add_argument("--seed", type=int, default=0, help="of places and execution times")
    parser.add_argument(
        "--warmup", type=float, default=WARMUP, metavar="SECONDS", help="before a leader places anything"
    )
    parser.add_argument("--crash-after", type=float, metavar="SECONDS", help="then its leader crashes")
    parser.add_argument("--rebalance-after", type=float, metavar="SECONDS", help="then it rebalances by force")
    options = parser.parse_args()
    asyncio.run(_serve(PeerServer(options.configs, options.seed, options.warmup), options))


if __name__ == "__main__":
    main()
