"""A heartbeat's body and address, read as the peer reads them."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.parsers import BadStatus, NodeStatus, read_client_ip, read_status
from tests.table import table

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(INT64, st.integers(0, 255))
def test_what_a_node_agent_sends_comes_through(last_change: int, node_type: int) -> None:
    body = json.dumps({"last_change": last_change, "node_type": node_type})
    assert read_status(body.encode()) == NodeStatus(last_change, node_type)


@table(
    ("body", "last_change"),
    [
        ("null", 0),
        ("{}", 0),
        (" \r\n\t{} ", 0),
        ('{"last_change":null}', 0),
        ('{"LAST_CHANGE":5}', 5),
        ('{"Last_Change":5,"last_CHANGE":6}', 6),
        ('{"last_change":5,"last_change":6}', 6),
        ('{"last_change":5,"last_change":null}', 5),
        ('{"last_change":5}{"last_change":6}', 5),
        ('{"last_change":5} and more', 5),
        (b'{"last_change":5}\xff\x00', 5),
        ('{"last_change":-0}', 0),
        ('{"last_change":9223372036854775807}', 2**63 - 1),
        ('{"last_change":-9223372036854775808}', -(2**63)),
        ('{"check_compatibility":{"include":["a"]},"groups":1.5,"x":[1e999,{}],"last_change":5}', 5),
        ('{"x":' + "9" * 100_000 + ',"last_change":5}', 5),
        ('{"x":"\\ud800","last_change":5}', 5),
    ],
)
def test_keys_ignore_case_and_what_is_not_ours_is_passed_over(body: str | bytes, last_change: int) -> None:
    assert read_status(body if isinstance(body, bytes) else body.encode()).last_change == last_change


@table(
    ("body", "why"),
    [
        (b"", "EOF"),
        (b" \t\r\n", "EOF"),
        (b"{", "invalid JSON: Expecting property name"),
        (b'{"last_change":5', "invalid JSON: Expecting ',' delimiter"),
        (b"\xef\xbb\xbf{}", "invalid JSON: Expecting value"),
        (b"\xff", "invalid JSON: Expecting value"),
        (b'{"x":"\xff"}', "invalid JSON: not UTF-8"),
        (b'{"x":"a\x00b"}', "invalid JSON: Invalid control character"),
        (b'{"x":"a\nb"}', "invalid JSON: Invalid control character"),
        (b'{"x":NaN}', "invalid JSON: NaN is no value"),
        (b'{"x":-Infinity}', "invalid JSON: -Infinity is no value"),
        (b"[]", "not an array"),
        (b'"0"', "not a string"),
        (b"true", "not a boolean"),
        (b"1.5", "not 1.5"),
        (b'{"last_change":"0"}', "last_change is a string, allowed is an integer"),
        (b'{"last_change":1.0}', "last_change is 1.0,"),
        (b'{"last_change":1e3}', "last_change is 1e3,"),
        (b'{"last_change":true}', "last_change is a boolean,"),
        (b'{"last_change":[5]}', "last_change is an array,"),
        (b'{"last_change":{}}', "last_change is an object,"),
        (b'{"last_change":9223372036854775808}', "last_change is 9223372036854775808,"),
        (b'{"last_change":-9223372036854775809}', "last_change is -9223372036854775809,"),
        (b'{"last_change":' + b"9" * 100_000 + b"}", "last_change is 999999"),
        (b'{"node_type":256}', "node_type is 256, allowed is an integer from 0 to 255"),
        (b'{"node_type":-1}', "node_type is -1,"),
        (b"[" * 100_000, "invalid JSON: nested too deeply"),
        (b'{"a":' * 20_000, "invalid JSON: nested too deeply"),
    ],
)
def test_anything_else_is_refused_and_named_in_one_short_line(body: bytes, why: str) -> None:
    with pytest.raises(BadStatus) as refused:
        read_status(body)
    assert why in str(refused.value)
    assert len(str(refused.value)) < 130
    assert "\n" not in str(refused.value)


@given(st.binary() | st.text('{}[]",:0123456789.eE-+ntrufalsxNI\\').map(str.encode))
def test_no_body_does_anything_but_be_read_or_refused(body: bytes) -> None:
    with suppress(BadStatus):
        status = read_status(body)
        assert -(2**63) <= status.last_change < 2**63
        assert 0 <= status.node_type < 256


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("", None),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:DB8::0001", "2001:db8::1"),
    ],
)
def test_an_address_is_read_in_one_form(header: str, address: str | None) -> None:
    assert read_client_ip(header) == address


@pytest.mark.parametrize("header", ["[::1]", "fe80::1%eth0", "10.0.0.1:80", "010.0.0.1", "10.0.0", "1", "x", " "])
def test_what_is_no_address_is_refused_and_named(header: str) -> None:
    with pytest.raises(BadStatus, match="cannot parse CLC runner address: ") as refused:
        read_client_ip(header)
    assert str(refused.value).endswith(header)
