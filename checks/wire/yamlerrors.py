"""Explains libyaml's errors to the author of a text. No message contains text of the author."""

import re
from itertools import takewhile

import yaml

NO_TEMPLATES = "{{ … }} is YAML for a map in a map: put the value in quotes, or fill in the template first"
NO_BLANK = "an item of a list begins with one dash and a space after it, as in `- host: …`"
_STATEMENT = "{{{} … {}}} is not YAML but a template: fill in the template first"
_TAB = "there is a tab where YAML requires spaces"
_DIGITS = "\\x, \\u and \\U need 2, 4 and 8 hexadecimal digits: in '…' a backslash is an ordinary character"
_NO_COLON = "a key lacks its colon"
_UNCLOSED = "a quote begins here that is never closed"
_INDENTATION = "this line does not fit the lines above it: its indentation differs, or a key there lacks its colon"
_AFTER_QUOTE = "text follows a closing quote: inside of '…' a quote is written twice, inside of \"…\" with a backslash"
_QUOTES = "a value can't begin with {}: put it in quotes{}"
_TEMPLATE = re.compile(r"(?:^|[:,\[-])\s*\{([{%#])")
_DASHED = re.compile(r"\s*(?:--?(?![\s-])|--\s)").match
_SIGNS = set("%@[]{},&*!|>?:-#")
_BRACKET = re.compile(r"[\]}]\s*\Z")

# {libyaml's message: our message}.
_MEANINGS = {
    "found a tab character that violates indentation": _TAB,
    "found a tab character where an indentation space is expected": _TAB,
    "could not find expected directive name": "a line can't begin with %: put the text in quotes",
    "found unknown directive name": "a line can't begin with %: put the text in quotes",
    "could not find expected ':'": _NO_COLON,
    "did not find expected key": _INDENTATION,
    "did not find expected '-' indicator": _INDENTATION,
    "mapping values are not allowed in this context": _INDENTATION,
    "mapping keys are not allowed in this context": "a ? follows other text: put it on a line of its own, or in quotes",
    **dict.fromkeys(
        (
            "found undefined tag handle",
            "did not find expected whitespace or line break",
            "did not find expected tag URI",
            "did not find the expected '>'",
            "did not find expected '!'",
            "did not find URI escaped octet",
        ),
        "a tag that YAML does not know: put a text that begins with ! in quotes",
    ),
    "did not find expected hexdecimal number": _DIGITS,
    "found invalid Unicode character escape code": "this escape stands for no character: write the character itself",
    "found an indentation indicator equal to 0": "the number after | or > must be from 1 to 9: remove it",
    **dict.fromkeys(
        (
            "found incompatible YAML document",
            "did not find expected version number",
            "found extremely long version number",
            "did not find expected digit or '.' character",
        ),
        "%YAML names a version other than 1.1: remove the line",
    ),
    "found duplicate %YAML directive": "%YAML occurs twice: remove the line",
    "found duplicate %TAG directive": "%TAG occurs twice for one handle: remove the line",
    "found unknown escape character": "YAML does not know this escape: use '…', in which a backslash is an ordinary character",
    "did not find expected comment or line break": "text follows | or > on the same line: put it on the next line, or in quotes",
    "did not find expected <document start>": _INDENTATION,
    "block sequence entries are not allowed in this context": "a dash follows other text: put it on a line of its own",
    "but found another document": "another document follows, and only one is read",
    "second occurrence": "an anchor's name is given twice",
}
_NEITHER_COMMA_NOR_END = "a {} begins here that is not closed, or a comma is missing in it"


def explain(text: str, error: yaml.MarkedYAMLError) -> tuple[str, int | None]:
    """Return what is wrong with a text that can't be read, and the line of it, counted from 1; None when it is not known."""
    mark, context, problem = error.problem_mark, error.context_mark, error.problem or "is not YAML"
    if mark is None:
        return problem, None
    text = text.removeprefix("\ufeff")  # the marks don't count it
    quote, bracket = _before(text, mark)
    if quote is not None:
        unclosed = quote.start_mark.line < quote.end_mark.line
        return (_UNCLOSED if unclosed else _AFTER_QUOTE), quote.start_mark.line + 1
    if error.context == "while scanning a quoted scalar" and "unexpected" in problem and context is not None:
        return _UNCLOSED, context.line + 1
    lines = text.split("\n")
    for place in filter(None, (mark, context, bracket and bracket.start_mark)):
        if place.line < len(lines) and (template := _TEMPLATE.search(lines[place.line])):
            sign = template[1]
            return (NO_TEMPLATES if sign == "{" else _STATEMENT.format(sign, sign)), place.line + 1
    if bracket is not None and problem.startswith("did not find expected"):
        sign = "[" if isinstance(bracket, yaml.FlowSequenceStartToken) else "{"
        return _NEITHER_COMMA_NOR_END.format(sign), bracket.start_mark.line + 1
    at = context if problem == "could not find expected ':'" and context is not None else mark
    message = _meaning(problem, lines[mark.line] if mark.line < len(lines) else "", mark.column)
    if message in (_INDENTATION, _NO_COLON) and at.line < len(lines) and _DASHED(lines[at.line]):
        message = NO_BLANK
    return message, at.line + 1


def lacks_blank(key: str) -> bool:
    """Return whether a key looks like a list item without a blank after its dash, or with two dashes."""
    return _DASHED(f"{key} ") is not None


def _meaning(problem: str, line: str, column: int) -> str:
    before, sign = line[:column], line[column : column + 1]
    if problem == "found character that cannot start any token":
        return _TAB if sign == "\t" else _in_quotes(sign)
    if problem == "did not find expected node content" and sign:
        return _in_quotes(sign)
    if problem == "did not find expected alphabetic or numeric character":
        return _in_quotes(line[column - 1 : column])
    if problem == "mapping values are not allowed in this context" and ": " in before:
        return "a value holds a colon and a space: put it in quotes"
    if problem == "did not find expected key" and _BRACKET.search(before):
        return "text follows a closing bracket: put a value that begins with [ or { and continues after it in quotes"
    return _MEANINGS.get(problem, problem)


def _in_quotes(sign: str) -> str:
    shown = "a back-tick" if sign == "`" else sign if sign in _SIGNS else "this character"
    return _QUOTES.format(shown, ", as '%%host%%'" if sign == "%" else "")


def _before(text: str, mark: yaml.Mark) -> tuple[yaml.ScalarToken | None, yaml.Token | None]:
    """The quoted text that ends right before this place, and the innermost open bracket there; None without one."""
    brackets: list[yaml.Token] = []
    quote = None
    try:
        tokens = yaml.scan(text, yaml.CSafeLoader)
        for token in takewhile(lambda token: token.end_mark.index <= mark.index, tokens):
            if isinstance(token, yaml.FlowSequenceStartToken | yaml.FlowMappingStartToken):
                brackets.append(token)
            elif isinstance(token, yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken) and brackets:
                brackets.pop()
            elif isinstance(token, yaml.ScalarToken):
                between = text[token.end_mark.index : mark.index]
                is_quote = token.style in ("'", '"') and not between.strip() and "\n" not in between
                quote = token if is_quote else None
    except yaml.YAMLError:
        pass
    return quote, brackets[-1] if brackets else None
