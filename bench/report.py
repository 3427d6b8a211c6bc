"""The figures of a run: printed as a table, written as JSON."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).parent.parent
LIBRARIES = ("Django", "djangorestframework", "django-q2", "psycopg", "granian")


@dataclass(frozen=True)
class Figure:
    """One measured value. floor: the bare machine's value in the same run; goal: the bound, of the ratio if there is a floor."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None


@dataclass
class Report:
    """All figures of a run."""

    figures: list[Figure] = field(default_factory=list)

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        floor: float | None = None,
        least: float | None = None,
        most: float | None = None,
    ) -> None:
        """Add a figure and print it. least, most: bounds of the ratio to the floor, or of the value if there is no floor."""
        ratio = value / floor if floor else None
        judged = value if ratio is None else ratio
        met = (
            None if least is None and most is None else (least or 0) <= judged <= (most if most is not None else judged)
        )
        goal = " ".join(f"{sign} {bound:g}" for sign, bound in (("≥", least), ("≤", most)) if bound is not None)
        figure = Figure(name, round(value, 4), unit, floor and round(floor, 4), ratio and round(ratio, 3), goal, met)
        self.figures.append(figure)
        print(_line(figure), flush=True)

    def write(self, path: Path) -> None:
        """Write machine, commit, versions and all figures as JSON."""
        content = {
            "machine": machine(),
            "commit": _git("rev-parse", "--short", "HEAD"),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
            "figures": [asdict(figure) for figure in self.figures],
        }
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def machine() -> str:
    """Describe this machine: processors, memory and operating system."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def header() -> str:
    """Return the first lines of the table."""
    return f"{machine()}\n\n{'figure':72} {'value':>10} {'unit':8} {'floor':>10} {'ratio':>7}  {'goal':10} met"


def timed(work: Callable[[], Any]) -> float:
    """Run `work` and return the seconds that it took."""
    began = perf_counter()
    work()
    return perf_counter() - began


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share (0 to 1) of the values is, exact to a thousandth of the share."""
    return statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]


def _line(figure: Figure) -> str:
    floor = "" if figure.floor is None else f"{figure.floor:10.4g}"
    ratio = "" if figure.ratio is None else f"{figure.ratio:7.3g}"
    met = {None: "", True: "yes", False: "NO"}[figure.met]
    return f"{figure.name:72} {figure.value:10.4g} {figure.unit:8} {floor:>10} {ratio:>7}  {figure.goal:10} {met}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
