"""An author's text is displayed with the same lines and without secrets."""

import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from checks.tests import test_scrub, test_scrub_kinds
from checks.tests.test_scrub_kinds import ESCAPED, PEM, PEM_IN_BASE64, PUTTY, SECRET, VISIBLE, lines
from checks.wire import written
from checks.wire.scrub import MASK
from tests.table import table


def shown(text: str) -> str:
    """The displayed text, after checking that it has the same lines."""
    seen = written.shown(text)
    assert seen.count("\n") == text.count("\n")
    return seen


def dumped(value: Any) -> list[str]:
    return [yaml.safe_dump(value), yaml.safe_dump(value, default_flow_style=True), json.dumps(value, indent=1)]


@table("key", test_scrub.SECRET_KEYS)
@table(
    "value",
    [
        SECRET,
        f"'{SECRET}'",
        f"&a {SECRET}",
        f"[{SECRET}, x]",
        f"{{a: {{b: [{SECRET}]}}}}",
        f"|-\n  {SECRET}\n  {SECRET}",
        f">\n  {SECRET}\n\n  {SECRET}",
        f"\n  {SECRET}",
        f"first\n  {SECRET}",
        f'"first\n  {SECRET}"',
        f"\n- {SECRET}\n- x",
        f"!{SECRET} x",
        f"!{SECRET}",
        f"!{SECRET} [x]",
        f"!!str {SECRET}",
    ],
)
def test_whatever_stands_below_a_secret_key_is_hidden(key: str, value: str) -> None:
    assert SECRET not in shown(f"a: 1\n{key}: {value}\n")
    assert SECRET not in shown(f"other: 1\n---\n{key}: {value}\n")


@table("text", lines(test_scrub_kinds.HIDDEN))
def test_values_and_comments_lose_it(text: str) -> None:
    for value in dumped({"query": text, "deep": [{"in": [text]}]}):
        assert SECRET not in shown(value).lower()
    assert SECRET not in shown(f"a: 1\n# {text}\nb: 2 # {text}\n").lower()


@table("text", [PUTTY, PEM, PEM_IN_BASE64, ESCAPED])
def test_whole_documents_lose_it(text: str) -> None:
    hidden = "".join(map(shown, dumped({"neutral": text})))
    assert SECRET not in hidden
    assert PEM_IN_BASE64[30:] not in hidden


def test_a_key_in_comments_is_hidden() -> None:
    commented = "".join(f"# {line}\n" for line in PEM.splitlines())
    assert SECRET not in shown(f"a: 1\n{commented}b: 2\n")


@table(
    "text",
    [
        f"env: [{{name: DB_PASSWORD, value: {SECRET}}}]",
        f"env:\n- value: {SECRET}\n  name: DB_PASSWORD",
        f"x: &v {{value: {SECRET}}}\nenv:\n- name: DB_PASSWORD\n  <<: *v",
        f"x: &v {SECRET}\npassword: *v",
        f"x: &v {{a: {SECRET}}}\npassword: *v",
        f"password: {SECRET}\n# it was {SECRET} before",
        f"# password:\n#   {SECRET}\n#\n#   {SECRET}\na: 1",
        f"# secrets:\n# - {SECRET}\na: 1",
        f"a: 1 # the password is {SECRET}",
        f"headers: [[X-Api-Key, {SECRET}]]",
        f"command: [mysql, -uroot, -p{SECRET}]",
        f"login: 'user:{SECRET}'",
        f"password: {SECRET}\npassword: other",
        f"password: [&{SECRET} ]",
        f"password:\n- &{SECRET}\n- !{SECRET}\n",
        f"a: 1\n---\npassword: [{SECRET}",
        f"a: 1\n---\nb: 1\n---\npassword:\n  {SECRET}",
        f"a: 1\n...\npassword:\n  {SECRET}",
    ],
)
def test_what_only_the_structure_tells_is_hidden(text: str) -> None:
    assert SECRET not in shown(text)


@table("key", VISIBLE)
def test_what_is_no_secret_stays_as_it_is_written(key: str) -> None:
    text = yaml.safe_dump({key: VISIBLE[key]})
    assert shown(f"# The shop's\n{text}") == f"# The shop's\n{text}"


def test_all_else_stays_as_it_is_written() -> None:
    text = f"a: &x 'it''s' # why\n\nb: *x\r\npassword: {SECRET}\n  # more\nc: {{ d : 010 }}\n---\n[1]\n"
    assert shown(text) == text.replace(SECRET, MASK)


@given(st.text(alphabet="ab:#- \n'\"[]{},&*!|>%.\\\t\r\ufeffé", max_size=60))
def test_any_text_keeps_its_lines(text: str) -> None:
    shown(text.replace("\ufeff", "", 1) if text.startswith("\ufeff") else text)


@pytest.mark.parametrize(
    "text",
    [
        "---\n" * 200_000,
        "a: 1\n---\n" * 100_000,
        "# password\n" * 80_000,
        "a: 1\n" + "#" * 1_000_000,
        "instances:\n" + "".join(f"- password: secret{n} # secret{n}\n" for n in range(20_000)),
        "a: " + "!" * 1_000_000,
        "&a " * 300_000,
    ],
    ids=range(7),
)
def test_it_takes_no_longer_than_a_page_may(text: str) -> None:
    begun = time.process_time()
    shown(text)
    assert time.process_time() - begun < 10
