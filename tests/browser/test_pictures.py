"""The main pages look as their stored pictures do."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from tests.browser.cluster import PATIENCE, Cluster, living
from tests.browser.pages import plan_a_pause
from tests.browser.pictures import IS_RENEWING, STORED, TOLERANCE, Gallery
from tests.browser.visit import SIZE, Scheme, Visit, log_in
from tests.replicas import measured, wait_for
from tests.table import table

pytestmark = pytest.mark.processes

LARGEST = 1_000_000
PHONE: ViewportSize = {"width": 390, "height": 844}
PAGES = {
    "first": "/admin/",
    "configs": "/admin/checks/config/",
    "config": "/admin/checks/config/{config}/change/",
    "nodes": "/admin/nodes/node/",
    "node": "/admin/nodes/node/{node}/change/",
    "changes": "/admin/changes/",
    "failures": "/admin/failures/",
    "history": "/admin/history/",
    "plan": "/admin/checks/plan/{plan}/change/",
}
ERRORS = {"postgres:db-11": "could not connect to db-11.example.com:5432: connection refused"}
_FAILING = "SELECT 1 FROM checks_trouble WHERE kind = 'failing'"
# Names of pictures, with the look of each. Small ones tell a phone's page.
LOOKS: dict[str, tuple[Scheme, ViewportSize]] = {
    **{f"{name}-{scheme}": (scheme, SIZE) for name in PAGES for scheme in ("light", "dark")},
    "first-phone": ("light", PHONE),
    "configs-phone": ("light", PHONE),
}
# Styles that break a page as a change of styles may: rows that became too high, a part that moved, another font.
BROKEN = {
    "first-light": ".pages { gap: 4rem; }",
    "configs-dark": "#result_list :is(th, td) { padding-block: 1rem; }",
    "nodes-light": "#content { margin-left: 6rem; }",
    "config-light": "main { font-size: 1.25rem; }",
}


@pytest.fixture(scope="module")
def scene(browser: Browser) -> Iterator[Cluster]:
    """A cluster of its own: others have what tests before these left."""
    with living(errors=ERRORS) as cluster:
        wait_for("a check fails", lambda: cluster.ask(_FAILING), PATIENCE)
        yield cluster


@pytest.fixture(scope="module")
def visit(browser: Browser, scene: Cluster) -> Iterator[Visit]:
    """An operator's visit."""
    with Visit(browser, scene.url, None) as visit:
        with visit.page() as page:
            log_in(page, scene)
        wait_for(
            "a minute is noted", lambda: "<figure>" in visit.context.request.get(PAGES["history"]).text(), PATIENCE
        )
        yield visit


@pytest.fixture(scope="module")
def addresses(scene: Cluster, visit: Visit) -> dict[str, str]:
    """The pages by name."""
    with visit.page() as page:
        plan = plan_a_pause(scene, page)
    names = {"config": scene.number_of("postgres.d/db-07.yaml"), "node": scene.number_of_node("ash"), "plan": plan}
    return {name: path.format(**names) for name, path in PAGES.items()}


@pytest.fixture(scope="module")
def gallery(browser: Browser) -> Iterator[Gallery]:
    """Where pictures are made and compared."""
    context = browser.new_context()
    yield Gallery(context.new_page())
    context.close()


@pytest.fixture
def page(visit: Visit) -> Iterator[Page]:
    """A page of the operator."""
    with visit.page() as page:
        yield page


def _picture(page: Page, gallery: Gallery, address: str, name: str, style: str = "") -> bytes:
    """A picture of the page in the look of that name."""
    scheme, size = LOOKS[name]
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(address)
    if style:
        page.evaluate(
            "style => { const sheet = new CSSStyleSheet(); sheet.replaceSync(style); document.adoptedStyleSheets.push(sheet); }",
            style,
        )
    return gallery.taken(page)


@table("name", LOOKS)
def test_a_page_looks_as_its_picture_does(page: Page, gallery: Gallery, addresses: dict[str, str], name: str) -> None:
    picture = _picture(page, gallery, addresses[name.partition("-")[0]], name)
    if IS_RENEWING:
        STORED.mkdir(exist_ok=True)
        (STORED / f"{name}.png").write_bytes(picture)
        return
    share = gallery.difference(picture, name)
    measured(f"{name}: {share:.2%}")
    if share > gallery.tolerance:
        now = Path(tempfile.gettempdir()) / f"{name}-now.png"
        now.write_bytes(picture)
        raise AssertionError(
            f"{share:.1%} of {name} differ: compare {now} with {STORED / name}.png, or run make pictures"
        )


@pytest.mark.skipif(IS_RENEWING, reason="nothing is compared")
@table(("name", "style"), BROKEN.items())
def test_a_broken_page_differs_from_its_picture(
    page: Page, gallery: Gallery, addresses: dict[str, str], name: str, style: str
) -> None:
    picture = _picture(page, gallery, addresses[name.partition("-")[0]], name, style)
    share = gallery.difference(picture, name)
    measured(f"{name}, broken: {share:.2%}")
    assert share > 2 * TOLERANCE


def test_pictures_are_small_and_all_are_compared() -> None:
    assert {file.stem for file in STORED.iterdir()} == set(LOOKS)
    assert sum(file.stat().st_size for file in STORED.iterdir()) < LARGEST
