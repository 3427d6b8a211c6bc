"""The browser of these tests: the system's, else playwright's own. Run as a program, the module installs one if needed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

# Before playwright is imported: its own browser is installed into .venv.
os.environ.setdefault("PLAYWRIGHT_BROWSERS_PATH", "0")

from playwright.sync_api import Browser, Error, Playwright, sync_playwright

NAMES = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
# No page of ours needs another host, so no other name is resolved.
ARGUMENTS = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
# Seconds that a download may take.
PATIENCE = "300"


def launch(playwright: Playwright) -> Browser | None:
    """Return the first browser of this machine that starts; None if none does."""
    for path in (*filter(None, map(shutil.which, NAMES)), None):
        with suppress(Error):
            return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
    return None


def get() -> bool:
    """Install a browser if there is none; return whether there is one now."""
    ways: tuple[Callable[[], None], ...] = (lambda: None, _download, _install)
    for way in ways:
        way()
        if _starts():
            return True
    return False


def _starts() -> bool:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        if browser:
            browser.close()
    return browser is not None


def _download() -> None:
    _run(sys.executable, "-m", "playwright", "install", "--only-shell", "chromium")


def _install() -> None:
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "-qq", "--no-install-recommends", "chromium")


def _run(*words: str) -> None:
    quietly = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["timeout", PATIENCE, *words], env=quietly, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.stderr.write("Looking for a browser\n")
    if not get():
        sys.stderr.write("None can be had here: the tests that need one are skipped (apt-get install chromium)\n")
