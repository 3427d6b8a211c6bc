"""Errors of invalid YAML: the reason in plain words, and the line to look at."""

import pytest

from checks.wire import yamlerrors, yamlnodes
from checks.wire.yamlnodes import InvalidYAML
from tests.table import table

INSTANCES = "instances:\n  - "


def error(text: str) -> tuple[str, int | None]:
    with pytest.raises(InvalidYAML) as caught:
        yamlnodes.read(text)
    return caught.value.problem, caught.value.line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("instances:\n\t- host: a\n", 2),
        ("instances:\n  - host: a\n\tport: 1\n", 3),
        ("instances:\n  -\thost: a\n    port: 1\n", 2),
    ],
)
def test_a_tab(text: str, line: int) -> None:
    assert error(text) == ("there is a tab where YAML requires spaces", line)


@table(
    ("value", "told"),
    [
        ("%%host%%", "a value can't begin with %: put it in quotes, as '%%host%%'"),
        ("@admin", "a value can't begin with @: put it in quotes"),
        ("`date`", "a value can't begin with a back-tick: put it in quotes"),
        ("*.example.org", "a value can't begin with *: put it in quotes"),
        ("*all", "an alias refers to no earlier anchor: put a text that begins with * in quotes"),
        ("]", "a value can't begin with ]: put it in quotes"),
        ("!a!b c", "a tag that YAML does not know: put a text that begins with ! in quotes"),
        ('"\\d+"', "YAML does not know this escape: use '…', in which a backslash is an ordinary character"),
        ('"\\xZZ"', "\\x, \\u and \\U need 2, 4 and 8 hexadecimal digits: in '…' a backslash is an ordinary character"),
        ('"\\ud83d"', "this escape stands for no character: write the character itself"),
        ("![c]", "a tag that YAML does not know: put a text that begins with ! in quotes"),
        ("!<c", "a tag that YAML does not know: put a text that begins with ! in quotes"),
        ("|0\n  x", "the number after | or > must be from 1 to 9: remove it"),
        ("|text", "text follows | or > on the same line: put it on the next line, or in quotes"),
        ("a: b", "a value holds a colon and a space: put it in quotes"),
        ("- a", "a dash follows other text: put it on a line of its own"),
        (
            "[a-z]+",
            "text follows a closing bracket: put a value that begins with [ or { and continues after it in quotes",
        ),
    ],
)
def test_a_value_that_needs_quotes(value: str, told: str) -> None:
    assert error(f"{INSTANCES}host: {value}\n") == (told, 2)


@pytest.mark.parametrize(
    "text",
    [
        f"{INSTANCES}password: {{{{ pw }}}}\n",
        f"{INSTANCES}url: {{{{ host }}}}/status\n",
        f"{INSTANCES}{{{{ tags }}}}\n    port: 1\n",
    ],
)
def test_a_template_that_was_not_filled_in(text: str) -> None:
    assert error(text) == (yamlerrors.NO_TEMPLATES, 2)


@pytest.mark.parametrize("sign", ["%", "#"])
@pytest.mark.parametrize(
    "text", ["# by hand\n{SIGN if shop SIGN}\ninstances: [{}]\n", f"{INSTANCES}url: {{SIGN- shop SIGN}}\n"]
)
def test_a_statement_or_comment_of_a_template(text: str, sign: str) -> None:
    told = f"{{{sign} … {sign}}} is not YAML but a template: fill in the template first"
    assert error(text.replace("SIGN", sign)) == (told, 2)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{INSTANCES}host: a\n  -host: b\n", 3),
        (f"{INSTANCES}host: a\n  -- host: b\n", 3),
        (f"{INSTANCES}tags:\n    - a\n    -b\n", 4),
    ],
)
def test_a_dash_without_a_blank(text: str, line: int) -> None:
    assert error(text) == (yamlerrors.NO_BLANK, line)


@pytest.mark.parametrize("version", ["2.0", "x", "1.1\n%YAML 1.1"])
def test_a_version_that_is_not_read(version: str) -> None:
    assert error(f"%YAML {version}\n---\na: 1\n")[0].endswith(": remove the line")


def test_a_template_in_quotes_is_not_blamed_for_what_is_wrong_beside_it() -> None:
    assert error("a: '{{ x }}'\n\tb: 1\n") == ("there is a tab where YAML requires spaces", 2)


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize(
    "rest",
    [
        "    port: 1\n",
        "    port: 1\n    user: {quote}b{quote}\n    tags: []\n",
        "  - host: {quote}b{quote}\n",
        "    port: 1\n---\n",
        "    tags: [{quote}a{quote}, {quote}b{quote}]\n",
    ],
)
def test_a_quote_that_is_never_closed_is_told_where_it_begins(quote: str, rest: str) -> None:
    text = f"instances:\n  - host: {quote}a\n" + rest.format(quote=quote)
    assert error(text) == ("a quote begins here that is never closed", 2)


@pytest.mark.parametrize("value", ["'it's'", '"a" b', "['a, 'b']"])
def test_text_behind_a_closing_quote(value: str) -> None:
    told, line = error(f"{INSTANCES}host: {value}\n    port: 1\n")
    assert told.startswith("text follows a closing quote")
    assert line == 2


@pytest.mark.parametrize(
    ("text", "sign", "line"),
    [
        (f"{INSTANCES}tags: [a, b\n    port: 1\n", "[", 2),
        ("instances:\n  - {a: 1, b: 2\n", "{", 2),
        ("a:\n  [\n", "[", 2),
        ("a: {b: [1, 2}\n", "[", 1),
    ],
)
def test_a_bracket_that_is_never_closed_is_told_where_it_begins(text: str, sign: str, line: int) -> None:
    assert error(text) == (f"a {sign} begins here that is not closed, or a comma is missing in it", line)


@pytest.mark.parametrize(
    "text",
    [
        f"{INSTANCES}host: a\n     port: 1\n",
        f"{INSTANCES}host: a\n   port: 1\n",
        f"{INSTANCES}host\n    port: 1\n",
    ],
)
def test_a_line_that_does_not_fit(text: str) -> None:
    told, line = error(text)
    assert told.startswith("this line does not fit the lines above it")
    assert line == 3


def test_no_message_repeats_what_the_text_says() -> None:
    for text in (
        "password: @hunter22",
        "password: 'a'hunter22",
        "password: [hunter22",
        "a: hunter22: b",
        "- *hunter22",
    ):
        assert "hunter22" not in str(error(text))


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("a: 1\n---\nb: 2\n", "a: 1\n"),
        ("---\na: 1\n---\n", "a: 1\n"),
        ("# c\n---\na: 1\n--- # end\n", "a: 1\n"),
        ("%YAML 1.1\n---\na: 1\n...\nanything [\n", "a: 1\n"),
        ("--- {a: 1}\n---\n\tbroken: [\n", "a: 1\n"),
        ("a: |\n  x\n  ---\nb: '--- '\n", "a: |\n  x\n  ---\nb: '--- '\n"),
        ("---\r\na: 1\r\n---\r\nb: 2\r\n", "a: 1\n"),
        ("\ufeff---\na: 1\n---\nb: 2\n", "a: 1\n"),
    ],
)
def test_only_the_first_document_is_read(text: str, first: str) -> None:
    root = yamlnodes.read(text)
    assert root is not None
    assert yamlnodes.write(root) == first


@pytest.mark.parametrize("text", ["", "---\n", "---\n# c\n...\n", "\n  \n%A\n", "--- # a\n---\n"])
def test_marks_and_comments_say_nothing(text: str) -> None:
    assert not yamlnodes.says_something(text)


@pytest.mark.parametrize("text", ["a", "---\nb: 1\n", "--- b\n", "# c\n  x\n", "---x\n"])
def test_anything_else_says_something(text: str) -> None:
    assert yamlnodes.says_something(text)
