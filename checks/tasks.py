"""The tasks of the leader's worker. Each belongs to a term and does nothing once that term is over.

No task raises: a task that fails each second would store a failure each second.
"""

import time
from collections.abc import Callable
from functools import wraps

import structlog
from django.db import DatabaseError, transaction

from checks import dispatcher, plans, pruning, sources
from checks.dispatcher import costs, quarantine, settling
from checks.explain import headroom, history
from checks.models import ClusterStore, TaskRun, freezes
from checks.models.map import Call, NotLeader
from checks.models.troubles import Trouble
from checks.sources import repatching
from clusteragent.lib.traces import span
from nodes import proofs

NOT_LEADER = "not the leader"
FAILED = "failed"

log = structlog.get_logger()


def run(name: str, term: int, work: Callable[[int], object]) -> str:
    """Do the work of a task in a term and record its run. Return its outcome, NOT_LEADER, or FAILED after an exception."""
    began = time.monotonic()
    try:
        with span(f"task {name}", term=term):
            outcome = str(work(term))
        TaskRun.objects.note(name, time.monotonic() - began)
    except NotLeader:
        return NOT_LEADER
    except Exception:
        log.exception(f"{name}_failed", term=term)
        return FAILED
    return outcome


def task(name: str) -> Callable[[Callable[[int], object]], Callable[[int], str]]:
    """Make a function of a term a task: see `run` for what it returns."""

    def decorate(work: Callable[[int], object]) -> Callable[[int], str]:
        return wraps(work)(lambda term: run(name, term, work))

    return decorate


@task("pass")
def background_pass(term: int) -> object:
    """Run a background pass: hear, expire, re-dispatch, reconcile."""
    return dispatcher.run_pass(term)


@task("scan")
def scan_sources(term: int) -> str:
    """Read every source and dispatch what changed."""
    try:
        report = sources.sync(term=term)
    except sources.SyncUnderWay:
        return "another sync is under way"
    if report.unsettled:
        ClusterStore.objects.wake(Call.SCAN)
    return f"{len(report.added)} added, {len(report.changed)} changed, {len(report.removed)} removed"


@task("repatch")
def repatch(term: int) -> str:
    """Patch again some configs that other options patched."""
    return f"{len(repatching.repatch(term=term))} patched again"


@task("stats")
def collect_stats(term: int) -> str:
    """Fetch the runners' stats, and update costs, which nodes are slow or overloaded, troubles, the headroom and the history."""
    ClusterStore.objects.require(term)
    measured = costs.measure()
    for name, step in (
        ("slowness", costs.note_slow),
        ("troubles", Trouble.objects.note),
        ("overload", costs.note_overloaded),
        ("headroom", headroom.note),
        ("history", history.note),
    ):
        try:
            step()
        except Exception:
            # None needs another. The next round tries it again.
            log.exception(f"{name}_failed", term=term)
    asked, failed, seconds = measured.round
    return f"{asked} asked, {failed} failed, {seconds:.1f} s, {measured.configs} costs changed"


@task("prove")
def prove(term: int) -> str:
    """Ask the runners that take over configs for their stats, and have a pass look at them."""
    ClusterStore.objects.require(term)
    asked, failed, seconds = settling.prove()
    ClusterStore.objects.wake()
    return f"{asked} asked, {failed} failed, {seconds:.1f} s"


@task("ports")
def ask_ports(term: int) -> str:
    """Ask the ports of nodes that may be dead, and have a pass act on what that proves."""
    ClusterStore.objects.require(term)
    asked, refused, proven = proofs.ask_ports()
    if proven:
        ClusterStore.objects.wake()
    return f"{asked} asked, {refused} refused, {proven} proven"


def rebalance(term: int) -> str:
    """Collect stats, quarantine what is faulty, and balance. Return what it did, NOT_LEADER or FAILED."""
    asked = collect_stats(term)
    return asked if asked == NOT_LEADER else run("rebalance", term, _rebalance)


def _rebalance(term: int) -> str:
    try:
        quarantine.try_elsewhere(term=term)
        quarantine.quarantine(term=term)
    except DatabaseError:
        # The quarantine is only a precaution: its failure must not stop the balancing.
        log.exception("quarantine_failed", term=term)
    if why := freezes.why_off():
        return f"nothing rebalanced: {why}"
    try:
        plan, moves = plans.rebalance(actor="", term=term, budget=dispatcher.budget_left(), settling=True)
    except plans.StalePlan as reason:
        # The next plan is made from the map as it is then.
        return f"0 rebalanced: {reason}"
    if moves:
        log.info("configs_rebalanced", moves=len(moves), term=term)
    return f"{len(moves)} of {len(plan.moves)} rebalanced"


@task("prune")
def prune(term: int) -> dict[str, int]:
    """Delete what is older than its retention (checks/pruning.py)."""
    with transaction.atomic():
        ClusterStore.objects.lock(term)
    return pruning.prune()
