"""The site of the documentation: `make docs` builds it. It loads nothing from other hosts."""

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

_PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)

project = _PROJECT["name"]
version = release = _PROJECT["version"]
extensions = ["myst_parser"]
nitpicky = True
# Links of pages lead to headings as the forge names them.
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

html_theme = "furo"
html_title = "Cluster agent"
html_favicon = "../operators/static/clusteragent/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_use_index = False


def setup(app: Any) -> None:
    """Register what is done at the end of a build."""
    app.connect("build-finished", lambda app, exception: exception or _move_inline(Path(app.outdir)))


def _move_inline(site: Path) -> None:
    """Move the theme's scripts and styles out of the pages: our port tells browsers to run and apply files alone."""
    for page in site.rglob("*.html"):
        static = f"{'../' * (len(page.relative_to(site).parts) - 1)}_static"

        def to_file(match: re.Match[str], static: str = static) -> str:
            kind, text = match.groups()
            name = f"inline-{hashlib.sha256(text.encode()).hexdigest()[:8]}.{'js' if kind == 'script' else 'css'}"
            (site / "_static" / name).write_text(text)
            url = f"{static}/{name}"
            return f'<script src="{url}"></script>' if kind == "script" else f'<link rel="stylesheet" href="{url}">'

        page.write_text(_INLINE.sub(to_file, page.read_text()))
