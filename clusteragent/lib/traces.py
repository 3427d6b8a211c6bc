"""Traces of what dispatching does and of calls of the web servers, by OpenTelemetry. Without CLUSTERAGENT_TRACES nothing is
recorded, and no library loaded.

OpenTelemetry's own variables say where spans go. Spans carry counts and names of verbs and sources, never texts of configs.
"""

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ParamSpec, Protocol, Self, TypeVar

import structlog

from clusteragent.lib import conf
from clusteragent.lib.version import VERSION

P = ParamSpec("P")
S = TypeVar("S", bound=Sized)
# Seconds in which a receiver must take what it is sent, unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise.
PATIENCE = 3
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

log = structlog.get_logger()


def span(name: str, **attributes: Attribute) -> AbstractContextManager[Span]:
    """Record a piece of work, within the one that is under way in this thread. Of an error that ends it the type is told."""
    found = tracer()
    return _record(found, name, attributes) if found else _NO_SPAN


def tracer() -> Any:
    """Return the tracer of this process; None while traces are off."""
    return _tracer() if conf.TRACES else None


def begin_call(headers: Mapping[str, str]) -> Any:
    """Begin the span of a call that a client makes, within the client's own if its headers name one. Traces must be on."""
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return _tracer().start_span("", TraceContextTextMapPropagator().extract(headers), kind=SpanKind.SERVER)


def end_call(call: Any, name: str, attributes: Mapping[str, Attribute], *, is_error: bool) -> None:
    """End the span of a call, whose route and status are known only now."""
    from opentelemetry.trace import Status, StatusCode

    call.update_name(name)
    call.set_attributes(attributes)
    if is_error:
        call.set_status(Status(StatusCode.ERROR))
    call.end()


def within(call: Any) -> AbstractContextManager[object]:
    """Record the spans of a block within this one, which another thread has begun. None: there is none."""
    if call is None:
        return _NO_SPAN
    from opentelemetry.trace import use_span

    return use_span(call, record_exception=False, set_status_on_exception=False)


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
def _record(tracer: Any, name: str, attributes: Mapping[str, Attribute]) -> Iterator[Span]:
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
    """The tracer of this process. There is none if OpenTelemetry refuses a setting: work must be done nevertheless."""
    try:
        return _make_tracer()
    except Exception:
        log.exception("traces_failed")
        return None


def _make_tracer() -> Any:
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

    # The library's ten seconds would let each command wait so long at its end, while no receiver answers.
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", str(PATIENCE))
    # Each failed try is a warning; the error after the last one is enough.
    logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.ERROR)
    return OTLPSpanExporter(endpoint=conf.TRACES_URL or None, headers=conf.TRACES_HEADERS)


def _console() -> Any:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    # Not stdout, which is for what commands answer.
    return ConsoleSpanExporter(out=sys.stderr)


_EXPORTERS: Mapping[str, Callable[[], Any]] = {"otlp": _otlp, "console": _console, "none": lambda: None}
