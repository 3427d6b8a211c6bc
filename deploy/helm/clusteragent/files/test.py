"""Ask both Services, as an installation's own test. Ends with a line for each failure."""

import os
import ssl
import sys
import urllib.error
import urllib.request

# Certificates are the pods' own.
CONTEXT = ssl._create_unverified_context()  # noqa: S323
# No proxy, whatever the environment says.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=CONTEXT))


def status(url: str, token: str = "") -> str:
    """Return the status of an answer, or why there is none."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    try:
        with OPENER.open(request, timeout=10) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read(300).decode(errors='replace')}"
    except OSError as error:
        return str(error)


def failures(agents: str, operators: str, token: str) -> list[str]:
    """Return a line for each answer that is not as it should be."""
    asked = [
        (f"{agents}/readyz", "", "200"),
        (f"{operators}/readyz", "", "200"),
        # The chart knows no token where only node tokens hold that others made.
        *([(f"{agents}/version", token, "200")] if token else []),
        (f"{agents}/version", "not-the-token", "403"),
    ]
    answers = [(url, expected, status(url, with_token)) for url, with_token, expected in asked]
    return [f"{url}: {answer}, not {expected}" for url, expected, answer in answers if not answer.startswith(expected)]


if __name__ == "__main__":
    found = failures(os.environ["AGENTS"], os.environ["OPERATORS"], os.environ.get("TOKEN", ""))
    sys.exit("\n".join(found) or None)
