"""Environment variables in configs, `%%env_NAME%%`: which may never be read, and what a variable's value becomes."""

import re

from checks.wire import scalars

# The beginning of a variable. Node agents write %% as the per mille sign while they resolve.
BEGIN = re.compile("(?:%%|‰)env")
# Variables that hold this program's secrets, the Datadog Agent's or libpq's, or paths of files with them.
holds_secret = re.compile(
    r"(CLUSTERAGENT|DJANGO)_.*|(DATABASE_URL|SECRET_KEY).*|PG.*PASS.*"
    r"|DD_(.*_)?((AUTH_TOKEN|API_KEY|APP_KEY|APPLICATION_KEY|ADDITIONAL_ENDPOINTS).*)",
    re.IGNORECASE | re.DOTALL,
).fullmatch
_WHOLE_NUMBER = re.compile(
    r"[-+]?(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO]?(?:_?[0-7])+|0|[1-9](?:_?[0-9])*)", re.ASCII
).fullmatch
_BOOLEANS = dict.fromkeys(("t", "T", "true", "True", "TRUE", "1"), "true")
_BOOLEANS |= dict.fromkeys(("f", "F", "false", "False", "FALSE", "0"), "false")


def is_true(text: str) -> bool:
    """Return whether the text is a word for true, as agents read it in annotations and options."""
    return _BOOLEANS.get(text) == "true"


def typed(text: str) -> tuple[str, str] | None:
    """Return (tag, written text) of the number or boolean that agents read in a value which is nothing but a variable.

    None when they read a text. A leading zero means octal.
    """
    tag, number = scalars.value_of(scalars.tag_of(text), text)
    if tag == scalars.INT and _WHOLE_NUMBER(text) and -(2**63) <= int(number) < 2**63:
        return tag, number
    return (scalars.BOOL, _BOOLEANS[text]) if text in _BOOLEANS else None
