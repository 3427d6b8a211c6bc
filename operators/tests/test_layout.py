"""What all pages of the admin have in common."""

import re
from html import unescape
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.staticfiles.finders import get_finders
from django.db.models import FloatField, Func, Value

from checks import dispatcher
from checks.tests.cast import report, sent
from checks.tests.operators import act, config, superuser
from operators.admin import changelists
from operators.admin.base import list_url

pytestmark = pytest.mark.django_db

PAGES = (
    "", "map/", "failures/", "groups/", "history/", "changes/", "search/?q=a", "password_change/", "nodes/node/",
    "checks/config/", "checks/config/add/", "checks/rule/add/", "checks/plan/rebalance/",
)  # fmt: skip


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_one_main_part_to_which_a_link_skips(page: str) -> None:
    text = superuser().get(f"/admin/{page}").content.decode()
    assert (text.count("<main"), text.count("</main>"), text.count('id="page-main"')) == (1, 1, 1)
    assert 'href="#page-main"' in text


ADDING = {
    "checks/config": "Watch > Configs > Add a config by hand",
    "checks/pin": "Steer > Pins > Add pin",
    "checks/rule": "Steer > Rules > Add rule",
    "auth/user": "Access > Users > Add user",
    "auth/group": "Access > Groups > Add group",
    "knox/authtoken": "Access > Tokens > Add token",
    "nodes/nodetoken": "Access > Node tokens > Add node token",
}


def heading(page: str) -> str:
    """The words of a page's heading."""
    [found] = re.findall(r"<h1[^>]*>(.*?)</h1>", page, re.DOTALL)
    words = unescape(re.sub(r"<[^>]*>", " ", found)).replace("chevron_right", ">")
    return " ".join(words.split())


@pytest.mark.parametrize("name", ADDING)
def test_the_heading_of_a_form_says_what_it_adds(name: str) -> None:
    page = superuser().get(f"/admin/{name}/add/").content.decode()
    assert heading(page) == ADDING[name]
    assert "more user options" not in page


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("action", ["reassign", "pin", "pause"])
def test_the_heading_of_an_order_says_what_it_does_and_of_what(action: str) -> None:
    report("ash")
    dispatcher.schedule([sent("shop"), sent("door")])
    client = superuser()
    assert heading(act(client, action, ["shop"])) == f"Watch > Configs > {action.capitalize()} {config('shop')}"
    assert heading(act(client, action, ["shop", "door"])) == f"Watch > Configs > {action.capitalize()} 2 configs"


def test_the_heading_of_a_list_names_the_list_alone() -> None:
    client = superuser()
    assert heading(client.get("/admin/nodes/nodetoken/").content.decode()) == "Access > Node tokens"
    assert heading(client.get("/admin/auth/user/?q=nobody").content.decode()) == "Access > Users"


# Somebody who looks at these is a user and leaves an act; the groups are the roles; the cluster is always there.
NEVER_EMPTY = {"user", "group", "clusterstore", "act", "source"}
LISTS = {model._meta.model_name: model for model in admin.site._registry}


@pytest.mark.parametrize("name", sorted({*LISTS} - NEVER_EMPTY))
def test_a_list_without_rows_says_what_they_would_be(name: str) -> None:
    client, model = superuser(), LISTS[name]
    page = client.get(list_url(model))
    assert len(page.context["cl"].result_list) == 0
    empty = admin.site._registry[model].empty
    assert empty
    assert empty in unescape(page.content.decode())


def test_a_list_whose_filter_fits_nothing_says_that() -> None:
    text = superuser().get("/admin/checks/pin/?q=nothing").content.decode()
    assert "No pin fits the search and the filters." in text
    assert ">Show all<" in text


def test_a_list_is_named_by_its_rows() -> None:
    assert superuser().get("/admin/checks/move/").context["cl"].title == "Moves"


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("page", PAGES)
def test_icons_are_hidden_from_screen_readers_without_a_script(page: str) -> None:
    text = superuser().get(f"/admin/{page}").content.decode()
    icons = re.findall(r'<\w+\s[^<>]*class="[^"]*material-symbols-outlined[^<>]*>', text)
    assert icons
    # What a script fills in has one of these, too; `after:` is no element of its own.
    assert [icon for icon in icons if "aria-hidden" not in icon and "after:material" not in icon] == []


def test_a_list_says_how_many_of_how_many_fit(warm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    report(*(f"runner-{number}" for number in range(120)), "ash")
    client = superuser()

    def foot(query: str = "") -> str:
        text = client.get(f"/admin/nodes/node/{query}").content.decode()
        return " ".join(re.findall(r"<span>(\d+ to \d+.*?)</span>", text))

    assert foot() == "1 to 100 of 121"
    assert foot("?p=2") == "101 to 121 of 121"
    assert foot("?q=ash") == "1 to 1 of 1, 121 in all"
    counted, slow = changelists.counted, Func(Value(0.1), function="pg_sleep", output_field=FloatField())
    monkeypatch.setattr(changelists, "MOST_COUNTING", 1)
    monkeypatch.setattr(changelists, "counted", lambda rows: counted(rows.annotate(slow=slow).filter(slow=None)))
    assert foot() == "1 to 100 of more than 100"
    assert foot("?p=2") == "101 to 121 of 121"
    assert foot("?q=runner") == "1 to 100 of 120"
    monkeypatch.setattr(changelists, "MOST_AHEAD", 10)
    assert foot("?q=runner") == "1 to 100 of more than 109"


ROOT = Path(__file__).parents[2]


def test_each_class_that_templates_name_is_in_a_stylesheet_or_a_script() -> None:
    """Unfold's stylesheet has the classes of its own pages alone: another one of Tailwind's would do nothing."""
    files = [Path(storage.path(path)) for finder in get_finders() for path, storage in finder.list([])]
    served = {end: "".join(file.read_text() for file in files if file.suffix == end) for end in (".css", ".js")}
    styled = {re.sub(r"\\(.)", r"\1", name) for name in re.findall(r"\.((?:\\.|[\w-])+)", served[".css"])}
    sources = [*(ROOT / "templates").rglob("*.html"), *(ROOT / "operators" / "admin").rglob("*.py")]
    named: dict[str, str] = {}
    for source in sources:
        for classes in re.findall(r'(?<=\sclass=")(?:\{[{%].*?[%}]\}|[^"{}])*', source.read_text()):
            # What stands in double braces is a part of a name.
            told = re.sub(r"\{%.*?%\}", " ", re.sub(r"\{\{.*?\}\}", "{}", classes)).split()
            named |= {name: source.name for name in told if "{}" not in name}
    assert len(named) > 100
    scripted = {*re.findall(r"""[."'`]([\w-]+)""", served[".js"])}
    assert {name: where for name, where in named.items() if name not in styled | scripted} == {}
