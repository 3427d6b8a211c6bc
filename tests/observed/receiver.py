"""A receiver of traces: an HTTP server that understands OTLP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Receiver(ThreadingHTTPServer):
    """Keeps what it was sent: `spans`, and the attributes of who sent them, `senders`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Any] = []
        self.senders: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        """The address for OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, body: bytes) -> None:
        """Keep what a message has."""
        self.bodies.append(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.senders.append(attributes(group.resource))
            self.spans += [span for scope in group.scope_spans for span in scope.spans]

    def named(self, name: str) -> list[Any]:
        """Return the spans with this name."""
        return [span for span in self.spans if span.name == name]

    def within(self, outer: Any) -> list[str]:
        """Return the names of the spans right within another, in their order."""
        inner = [span for span in self.spans if span.parent_span_id == outer.span_id]
        return [span.name for span in sorted(inner, key=lambda span: span.start_time_unix_nano)]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
        self.server.take(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *about: object) -> None:
        pass


def attributes(message: Any) -> dict[str, Any]:
    """Return the attributes of a span or of a sender."""
    values = {one.key: one.value for one in message.attributes}
    return {name: getattr(value, value.WhichOneof("value")) for name, value in values.items()}


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver during the block."""
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        thread.join()
        receiver.server_close()
