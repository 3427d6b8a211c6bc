"""Log lines have one format, and no secrets."""

import io
import json
import logging
import logging.config
from collections.abc import Callable, Iterator

import pytest
import structlog

from clusteragent.lib import conf, logs
from clusteragent.lib.logs import RateLimit

TOKEN = "a-token-that-a-line-must-never-show-0123"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Callable[[], str]]]:
    """Set up logging in a format; return a function that reads the lines since the last call."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    monkeypatch.setattr(conf, "AUTH_TOKEN", TOKEN)

    def set_up(form: str = "json", level: str = "INFO") -> Callable[[], str]:
        monkeypatch.setattr(conf, "LOG_FORMAT", form)
        monkeypatch.setattr(conf, "LOG_LEVEL", level)
        stream = io.StringIO()
        config = logs.config()
        config["handlers"]["stderr"]["stream"] = stream
        logging.config.dictConfig(config)
        return stream.getvalue

    yield set_up
    root.handlers[:], root.level = before


def test_our_lines_and_the_libraries_are_json_of_one_form(lines: Callable[..., Callable[[], str]]) -> None:
    read = lines()
    structlog.get_logger("ours").info("node_expired", node="ash", term=7)
    logging.getLogger("django.request").warning("Not Found: %s", "/x")
    logging.getLogger("_granian").info("Started worker")
    ours, django, granian = (json.loads(line) for line in read().splitlines())
    assert (ours["event"], ours["node"], ours["term"], ours["level"]) == ("node_expired", "ash", 7, "info")
    assert (django["event"], django["logger"]) == ("Not Found: /x", "django.request")
    assert (granian["event"], granian["logger"]) == ("Started worker", "_granian")
    assert ours["timestamp"].endswith("Z")


def test_the_console_form_is_one_readable_line(lines: Callable[..., Callable[[], str]]) -> None:
    read = lines("console")
    structlog.get_logger("ours").warning("node_silent", node="birch")
    [line] = read().splitlines()
    assert "node_silent" in line
    assert "node=birch" in line


@pytest.mark.parametrize(("level", "expected"), [("DEBUG", 3), ("INFO", 2), ("ERROR", 1), ("CRITICAL", 0)])
def test_the_level_holds_for_ours_and_for_libraries(
    level: str, expected: int, lines: Callable[..., Callable[[], str]]
) -> None:
    read = lines(level=level)
    for logger in (structlog.get_logger("ours"), logging.getLogger("theirs")):
        for method in ("debug", "info", "error"):
            getattr(logger, method)("event")
    assert len(read().splitlines()) == 2 * expected


def test_a_line_for_each_pass_is_too_much(lines: Callable[..., Callable[[], str]]) -> None:
    read = lines()
    logging.getLogger("django-q").info("Enqueued [pass-7] 1")
    assert read() == ""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_is_told_and_hides_our_tokens(form: str, lines: Callable[..., Callable[[], str]]) -> None:
    read = lines(form)
    try:
        int(TOKEN)
    except ValueError:
        structlog.get_logger("ours").exception("pass_failed", term=7)
        logging.getLogger("theirs").exception("it failed")
    assert read().count("Traceback") == 2
    assert TOKEN not in read()
    assert read().count(logs.HIDDEN) == 2


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ********"),
        ('{"Authorization": "Bearer xyz"}', '{"Authorization": "Bearer ********"}'),
        ("headers={'authorization': 'Basic Zm9v'}", "headers={'authorization': 'Basic ********'}"),
        ("authorization=xyz status=403", "authorization=******** status=403"),
        ("sent bearer tok123, then left", "sent bearer ********, then left"),
        ("the authorization failed for ash", "the authorization failed for ash"),
    ],
)
def test_what_an_authorization_header_carries_is_hidden(line: str, hidden: str) -> None:
    assert logs.hide(line) == hidden


def test_every_secret_of_ours_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"AUTH_TOKEN": "first" * 8, "LOCAL_TOKEN": "second" * 8, "SECRET_KEY": 'th"rd' * 8}
    for name, value in secrets.items():
        monkeypatch.setattr(conf, name, value)
    monkeypatch.setattr(conf, "DATABASE_URL", "postgresql://app:correct-horse@db/checks")
    monkeypatch.setattr(conf, "DIRECT_DATABASE_URL", "postgresql://app:battery-staple@db/checks")
    line = f"{list(secrets.values())} {json.dumps(secrets)} postgresql://app:correct-horse@db app:battery-staple@db"
    shown = logs.hide(line)
    assert not any(word in shown for word in ("first", "second", "rd", "correct-horse", "battery-staple"))


def test_an_unset_secret_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTH_TOKEN", "LOCAL_TOKEN", "SECRET_KEY", "DATABASE_URL"):
        monkeypatch.setattr(conf, name, "")
    assert logs.hide("all is said") == "all is said"


def test_an_error_that_a_view_answers_on_purpose_is_no_line_but_a_crash_is(
    lines: Callable[..., Callable[[], str]],
) -> None:
    read = lines()
    log = logging.getLogger("django.request")
    log.error("Internal Server Error: %s", "/status/ash", extra={"status_code": 500})
    log.error("Service Unavailable: %s", "/status/ash", extra={"status_code": 503})
    assert read() == ""
    log.warning("Forbidden: %s", "/status/ash", extra={"status_code": 403})
    crash = RuntimeError("a crash")
    log.error("Internal Server Error: %s", "/admin/", exc_info=crash, extra={"status_code": 500})
    assert [json.loads(line)["event"] for line in read().splitlines()] == [
        "Forbidden: /status/ash",
        "Internal Server Error: /admin/",
    ]


def test_a_refused_call_is_a_line_without_a_traceback_and_few_are_told_a_minute(
    lines: Callable[..., Callable[[], str]],
) -> None:
    read, request = lines(), logging.getLogger("django.request")
    refusal = {"extra": {"status_code": 400}, "exc_info": ValueError("x")}
    for _ in range(logs.MOST_REFUSALS + 5):
        logging.getLogger("django.security.DisallowedModelAdminLookup").error(
            "checks.Config has no filter x", **refusal
        )  # type: ignore[arg-type]
    request.warning("Not Found: /x", extra={"status_code": 404})
    request.error("It broke", extra={"status_code": 500}, exc_info=ValueError("x"))
    told = [json.loads(line) for line in read().splitlines()]
    assert [line["event"] for line in told[-2:]] == ["Not Found: /x", "It broke"]
    assert len(told) == logs.MOST_REFUSALS + 2
    assert all("exception" not in line for line in told[:-1])
    assert "exception" in told[-1]


def test_what_was_too_much_is_told_with_the_next() -> None:
    now = 0.0
    limit = RateLimit(2, clock=lambda: now)
    assert [limit.take() for _ in range(5)] == [0, 0, None, None, None]
    now = 60.0
    assert [limit.take() for _ in range(3)] == [3, 0, None]
