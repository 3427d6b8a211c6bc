"""Arrows between rooms point down only: clusteragent → operators → checks → nodes → acts → clusteragent/lib.

The simulation imports no other room, and only the roof imports it.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from tests.table import table

ROOT = Path(__file__).parent.parent
# The rooms of checks/ are floors, too; what lies beside them there (views, tasks, commands) is above them.
CHECKS = [
    f"checks.{name}"
    for name in ("balancing", "wire", "models", "dispatcher", "sources", "plans", "explain", "adoption")
]
FLOORS = ["clusteragent.lib", "acts", "nodes", *CHECKS, "checks", "operators", "clusteragent"]
PURE = {"checks.balancing", "checks.wire"}
SIMULATION = "simulation"
OURS = {"acts", "nodes", "checks", "operators", "clusteragent", SIMULATION, "bench", "tests", "conftest"}


def room(module: str) -> str | None:
    """The room that a module belongs to; None for what isn't ours."""
    if module.split(".")[0] not in OURS:
        return None
    inner = (floor for floor in FLOORS if "." in floor and f"{module}.".startswith(f"{floor}."))
    return next(inner, module.split(".")[0])


def modules() -> Iterator[tuple[str, Path]]:
    for folder in ("acts", "nodes", "checks", "operators", "clusteragent", SIMULATION):
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if "tests" not in relative.parts:
                yield ".".join(relative.with_suffix("").parts), path


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports, inside functions too; `from x import y` gives x.y as well as x."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively, which this test can't follow"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@table(("module", "path"), modules())
def test_a_room_imports_only_itself_and_what_is_below(module, path):
    here = room(module)
    assert here is not None
    for imported in imports(path):
        other = room(imported)
        assert other is None or other in allowed(here), f"{module} imports {imported}"


def allowed(here: str) -> set[str]:
    """The rooms that a room may import from."""
    if here in {"clusteragent.lib", SIMULATION}:
        return {here}
    return set(FLOORS[: FLOORS.index(here) + 1]) | ({SIMULATION} if here == "clusteragent" else set())


def test_pure_rooms_know_no_database():
    found = [(module, imported) for module, path in modules() if room(module) in PURE for imported in imports(path)]
    assert found
    assert not [(module, imported) for module, imported in found if imported.startswith(("django", "nodes", "psycopg"))]


def test_the_rooms_are_found():
    found = {room(module) for module, _ in modules()}
    assert found == {*FLOORS, SIMULATION}


def test_the_simulation_speaks_http_only():
    """A simulated agent that used our database or frameworks would prove nothing about real agents."""
    paths = [path for module, path in modules() if room(module) == SIMULATION]
    libraries = {imported.partition(".")[0] for path in paths for imported in imports(path)}
    assert "h11" in libraries
    assert not libraries & {"django", "rest_framework", "psycopg"}


# What pages, their addresses and those who log in need; and of REST framework, what node agents' routes raise.
PEOPLES = (
    "unfold", "knox", "drf_spectacular", "django_filters", "django_ace", "rest_framework", "django.forms", "django.shortcuts",
    "django.template", "django.urls", "django.contrib.admin", "django.contrib.auth", "django.contrib.messages",
    "django.contrib.sessions", "django.contrib.staticfiles",
)  # fmt: skip
RAISED = "rest_framework.exceptions"


def test_nothing_below_operators_knows_a_page_or_its_address():
    """An alert or a plan names its subject, and operators make the link. Otherwise the agents' port would load the admin."""
    below = [(module, path) for module, path in modules() if room(module) in FLOORS[: FLOORS.index("operators")]]
    assert len(below) > 100
    found = [
        (module, imported)
        for module, path in below
        for imported in imports(path)
        if imported.startswith(PEOPLES) and not imported.startswith(RAISED)
    ]
    assert not found


def test_no_modules_import_each_other_in_a_circle():
    """Imports inside functions count too: they would only hide a circle."""
    paths = {module.removesuffix(".__init__"): path for module, path in modules()}
    graph = {}
    for module, path in paths.items():
        # `from a import b` is about the module a.b, if there is one, and else about a.
        named = {name if name in paths else name.rpartition(".")[0] for name in imports(path)}
        graph[module] = (named & paths.keys()) - {module}
    assert "nodes.models.events" in graph["nodes.models.nodes"]
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules


# What runs a statement that the ORM did not make.
RUNS_SQL = {"cursor", "execute", "raw", "extra"}


def runs_sql(path: Path) -> bool:
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    called = [call for call in calls if isinstance(call, ast.Attribute) and call.attr in RUNS_SQL]
    # super().execute() is a command's, not a cursor's.
    return any(not ast.unparse(call).startswith("super().") for call in called)


def test_sql_stands_beside_the_models_and_where_the_docs_say():
    section = (ROOT / "docs/architecture.md").read_text().partition("### Where SQL stands")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `([\w/]+\.py)` \|", section, re.MULTILINE))
    found = {path.relative_to(ROOT) for _, path in modules() if runs_sql(path)}
    beside = {path for path in found if {"models", "migrations"} & set(path.parts)}
    assert Path("nodes/models/heartbeats.py") in beside
    assert {str(path) for path in found - beside} == told
