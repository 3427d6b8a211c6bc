"""Traces of what dispatching does, by OpenTelemetry. Without CLUSTERAGENT_TRACES nothing is recorded, and no library loaded.

OpenTelemetry's own variables say where spans go. Spans carry counts and names of verbs and sources, never texts of configs.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ParamSpec, Protocol, Self, TypeVar

from clusteragent.lib import conf
from clusteragent.lib.version import VERSION

P = ParamSpec("P")
S = TypeVar("S", bound=Sized)
Attribute = str | int | float | bool


class Span(Protocol):
    """What is told of a piece of work beside its time."""

    def set_attributes(self, attributes: Mapping[str, Attribute]) -> object:
        """Add attributes."""


class _NoSpan:
    """The span of all work while traces are off. It costs a call."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def set_attributes(self, attributes: Mapping[str, Attribute]) -> None:
        pass


_NO_SPAN = _NoSpan()


def span(name: str, **attributes: Attribute) -> AbstractContextManager[Span]:
    """Record a piece of work, within the one that is under way in this thread. Of an error that ends it the type is told."""
    return _record(name, attributes) if conf.TRACES else _NO_SPAN


def counting(what: str) -> Callable[[Callable[P, S]], Callable[P, S]]:
    """Decorate a verb: each call is a span with its name, and with the number of what it returned."""

    def decorate(verb: Callable[P, S]) -> Callable[P, S]:
        @functools.wraps(verb)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> S:
            with span(verb.__name__) as current:
                found = verb(*args, **kwargs)
                current.set_attributes({what: len(found)})
                return found

        return wrapper

    return decorate


@contextmanager
def _record(name: str, attributes: Mapping[str, Attribute]) -> Iterator[Span]:
    tracer = _tracer()
    # The texts of errors may have a config's text in them, so the library is not to record them.
    unrecorded: dict[str, Any] = {"record_exception": False, "set_status_on_exception": False}
    with tracer.start_as_current_span(name, attributes=attributes, **unrecorded) as current:
        try:
            yield current
        except Exception as error:
            from opentelemetry.trace import Status, StatusCode

            current.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


@functools.cache
def _tracer() -> Any:
    """The tracer of this process. It sends in a thread of its own; what can't be sent is dropped."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = {"service.name": "clusteragent", "service.version": VERSION, "service.instance.id": conf.REPLICA}
    # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say wins.
    provider = TracerProvider(resource=Resource.create(ours).merge(OTELResourceDetector().detect()))
    if exporter := _EXPORTERS[conf.TRACES_EXPORTER]():
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider.get_tracer("clusteragent", VERSION)


def _otlp() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _console() -> Any:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    # Not stdout, which is for what commands answer.
    return ConsoleSpanExporter(out=sys.stderr)


_EXPORTERS: Mapping[str, Callable[[], Any]] = {"otlp": _otlp, "console": _console, "none": lambda: None}
