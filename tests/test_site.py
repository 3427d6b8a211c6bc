"""The site of the documentation: it is built without a warning, and whoever reads it calls no other host."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from checks.explain.alerts import Kind

ROOT = Path(__file__).parent.parent
# What a browser loads of its own accord.
_LOADED = re.compile(
    r"""<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)="([^"]*)"|url\(["']?([^)"']+)|@import\s+["']([^"']+)"""
)


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build a folder of pages as `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", ROOT / "docs", source, target]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "docs", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file()


def test_a_page_loads_nothing_from_other_hosts(site: Path) -> None:
    texts = {file: file.read_text() for kind in ("*.html", "*.css") for file in site.rglob(kind)}
    loaded = {(file, "".join(match)) for file, text in texts.items() for match in _LOADED.findall(text)}
    assert any("furo.css" in url for _, url in loaded)
    assert not [(file.name, url) for file, url in loaded if re.match(r"(https?:)?//", url)]


def test_scripts_and_styles_are_files_that_are_there(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert not re.search(r"<(script|style)>|\son[a-z]+=\"", text)
        for url in re.findall(r'<(?:script|link rel="stylesheet")[^>]* (?:src|href)="([^"?]+)', text):
            assert (page.parent / url).is_file()


@pytest.mark.parametrize(
    "symptom",
    [
        *map(str, Kind),
        *re.findall(r"alert: (\w+)", (ROOT / "deploy/grafana/alerts.yaml").read_text()),
    ],
)
def test_what_to_do_for_each_alert_is_described(symptom: str, site: Path) -> None:
    assert f'id="{symptom.lower()}"' in (site / "troubleshooting.html").read_text()


def test_each_alert_leads_to_what_to_do(site: Path) -> None:
    groups = yaml.safe_load((ROOT / "deploy/grafana/alerts.yaml").read_text())["groups"]
    pages = {rule["alert"]: rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"]}
    for name, url in pages.items():
        page, _, anchor = url.partition("#")
        assert anchor == name.lower()
        assert (ROOT / page).is_file()
        assert f'id="{anchor}"' in (site / Path(page).name).with_suffix(".html").read_text()


def test_no_alert_is_described_that_is_none() -> None:
    text = (ROOT / "docs/troubleshooting.md").read_text()
    kinds, rules = (re.findall(r"^### (\w+)$", part, re.MULTILINE) for part in text.partition("## Alerts of")[::2])
    groups = yaml.safe_load((ROOT / "deploy/grafana/alerts.yaml").read_text())["groups"]
    assert kinds == list(map(str, Kind))
    assert rules == [rule["alert"] for group in groups for rule in group["rules"]]


BROKEN = {
    "[page](nowhere.md)": "nowhere.md",
    "[heading](other.md#gone)": "gone",
    "[own heading](#away)": "away",
    "![picture](images/none.png)": "none.png",
}


@pytest.fixture(scope="module")
def refusal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of pages with broken links, one of which no menu has."""
    source = tmp_path_factory.mktemp("broken")
    links = "\n\n".join(BROKEN)
    (source / "index.md").write_text(f"# First\n\n{links}\n\n```{{toctree}}\nother\n```\n")
    (source / "other.md").write_text("# Other\n\n## Something\n")
    (source / "orphan.md").write_text("# Orphan\n")
    done = build(source, tmp_path_factory.mktemp("site"))
    assert done.returncode != 0
    return done.stderr


@pytest.mark.parametrize("error", [*BROKEN.values(), "orphan.md: WARNING"])
def test_a_link_that_leads_nowhere_and_a_page_without_a_menu_are_errors(error: str, refusal: str) -> None:
    assert error in refusal
