"""Follows a Kubernetes cluster for a term of the leader: watches it, syncs what changes, and tells people what is wrong."""

import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple, Never

import django.db
import structlog
from django.db import connection

from checks.models import ClusterStore, Origin, Source
from checks.models.configs import KUBERNETES
from checks.sources import ordered, origins
from checks.sources.kubernetes import access, clusterchecks, configs, instrumentations, options
from checks.sources.kubernetes.declared import Standings, wanted
from checks.sources.kubernetes.events import Events
from checks.sources.kubernetes.mirror import OF_CLUSTERCHECKS, OF_ENDPOINTS, OF_INSTRUMENTATIONS, OF_SERVICES, OF_SLICES
from checks.sources.kubernetes.resources import CLUSTERCHECKS, ENDPOINTS, ENDPOINTSLICES, SERVICES, Resource
from checks.sources.kubernetes.runnerpods import RunnerPods
from checks.sources.kubernetes.secretreader import SecretReader
from checks.sources.kubernetes.source import KubernetesSource
from checks.sources.kubernetes.statuses import Statuses
from checks.sources.kubernetes.watching import MOST_UNREAD, Kind, Listed, Phase, Told, Watch, Watcher
from checks.sources.source import PassedOver, Problem
from checks.sources.sync import sync_watched
from clusteragent.lib import conf
from nodes.models import Pod

# Seconds: in which changes are taken together; until operators are heard when nothing changes; between two signs of life;
# after an error of the database.
TOGETHER, IDLE, BEAT, PAUSE = 0.1, 0.5, 5.0, 1.0
# Seconds after which everything is compared with the store again, in case that somebody else changed it there. A comparison
# that takes long comes less often: it has at most this share of the time.
COMPARE, SHARE = 60.0, 0.02
# Seconds after which it is worked out again how the declared checks stand, since nodes fetch and run them meanwhile, and the
# share of the time that this has at most.
STATUSES, STATUSES_SHARE = 2.0, 0.1
# A watch that is refused tells nothing until somebody gives permission; all others will.
_REFUSED = (Phase.REFUSED, Phase.MISSING)

log = structlog.get_logger()


class _Declared(NamedTuple):
    """Resources that declare checks, and need not be there. name: of several. beginning: of the keys of their configs."""

    name: str
    kind: Kind
    beginning: str


_DECLARED = (
    _Declared("ClusterChecks", OF_CLUSTERCHECKS, clusterchecks.OF_CLUSTERCHECKS),
    _Declared("DatadogInstrumentations", OF_INSTRUMENTATIONS, instrumentations.OF_INSTRUMENTATIONS),
)


class Follower:
    """Follows a cluster until the term is over. told: what its watches tell.

    standings: how what is sent stands. Without it no status is written.
    """

    def __init__(
        self, term: int, read: access.Reader, how: configs.Options, standings: Standings | None = None
    ) -> None:
        self._term = term
        self.told: queue.Queue[Told] = queue.Queue(MOST_UNREAD)
        self._ahead: Told | None = None
        backends = [OF_SLICES, OF_ENDPOINTS] if conf.KUBERNETES_USE_ENDPOINT_SLICES else [OF_ENDPOINTS]
        self._services, self._backends = Watch([OF_SERVICES], self.told), Watch(backends, self.told)
        self._declared = {one: Watch([one.kind], self.told, optional=True) for one in _DECLARED}
        self._pods = RunnerPods(*conf.KUBERNETES_RUNNER_PODS, self.told) if conf.KUBERNETES_RUNNER_PODS else None
        watches = [
            self._services,
            self._backends,
            *self._declared.values(),
            *(self._pods.watches if self._pods else ()),
        ]
        self._watcher = Watcher(read, watches)
        self._events = Events(self._watcher)
        self._standings, self._statuses = standings, Statuses(self._watcher)
        # When statuses are worked out again: at the latest, and at the earliest.
        self._statuses_due = self._statuses_earliest = 0.0
        self._secrets = SecretReader(self._watcher, how.secrets.known) if how.secrets else None
        self._source = KubernetesSource(how, beat=self._beat)
        # Before the first list is compared: else what files made would count as gone.
        self._source.templates.look()
        self._look_at = time.monotonic() + conf.SCAN_PERIOD.total_seconds()
        self._problems: list[Problem] = []
        self._passed_over: list[PassedOver] = []
        # Resources that were listed.
        self._has: set[Resource] = set()
        sent = Origin.objects.filter(source=KUBERNETES)
        self._had = {one for one in _DECLARED if sent.beginning_with([one.beginning]).exists()}
        self._was_synced = False
        self._failure = ""
        self._state: dict[str, Any] = {}
        self._beaten = time.monotonic()
        self._compare_at = self._beaten + COMPARE

    def run(self) -> Never:
        """Follow the cluster. Raises NotLeader when the term is over."""
        Source.objects.get_or_create(name=KUBERNETES)
        if not self._pods:
            Pod.objects.all().delete()
        self._watcher.start()
        try:
            while True:
                try:
                    self.step()
                except django.db.Error as error:
                    self._fail(" ".join(str(error).split()))
        finally:
            self._watcher.stop()

    def step(self) -> None:
        """Take what was told, sync it, and hear whether the term is over or operators accepted removals."""
        if not self._failure:
            self._take()
        ClusterStore.objects.require(self._term)
        self._sync()
        if self._pods:
            self._pods.step(self._watcher.call)
        if self._secrets and (changed := self._secrets.step(self._source.handles)):
            self._source.take_secrets(changed)
            self._sync()
        began = time.monotonic()
        if began >= self._look_at:
            self._look_at = began + conf.SCAN_PERIOD.total_seconds()
            if self._source.templates.look():
                self._source.begin_again()
                self._sync()
        is_due = began >= self._compare_at
        if is_due or Source.objects.filter(name=KUBERNETES).exclude(accepted_removals=[]).exists():
            self._source.begin_again()
            self._sync()
        if is_due:
            now = time.monotonic()
            self._compare_at = now + max(COMPARE, (now - began) / SHARE)
        self._update_statuses()
        self._events.step()
        self._statuses.step()
        self._failure = ""
        self._beat()

    def _take(self) -> None:
        """Take what the watches told: wait for it, and then for what comes right after it.

        A list is taken alone: deletions that were seen before it must not be judged with it.
        """
        with suppress(queue.Empty):
            told = self._ahead or self.told.get(timeout=IDLE)
            self._ahead = None
            until = time.monotonic() + TOGETHER
            while True:
                if not (self._pods and self._pods.take(told)):
                    self._source.take(told)
                if isinstance(told, Listed):
                    self._has.add(told.resource)
                    return
                told = self.told.get(timeout=max(0.0, until - time.monotonic()))
                if isinstance(told, Listed):
                    self._ahead = told
                    return

    def _sync(self) -> None:
        """Sync what is new, if anything is.

        Pauses come before it, and all else that is ordered after it, so that neither what is paused runs for a moment, nor
        what was edited as it was.
        """
        is_complete = self._note()
        while self._source.look():
            self._enforce(only_pauses=True)
            report = sync_watched(self._source, self._term)
            self._source.settle()
            self._was_synced |= is_complete
            self._problems, self._passed_over = report.errors, report.passed_over
            self._events.want([*report.errors, *(Problem(*warning) for warning in report.warnings)])
            self._statuses_due = min(self._statuses_due, self._statuses_earliest)
        self._enforce()

    def _enforce(self, *, only_pauses: bool = False) -> None:
        if CLUSTERCHECKS in self._has:
            under, wanted = clusterchecks.OF_CLUSTERCHECKS, self._source.ordered()
            ordered.enforce(KUBERNETES, wanted, under=under, term=self._term, only_pauses=only_pauses)

    def _fail(self, error: str) -> None:
        """Note that the database did not take what was to be synced. It is looked at again."""
        log.warning("kubernetes_not_synced", error=error)
        connection.close()
        time.sleep(PAUSE)
        self._failure = f"what it says can't be stored: {error}"
        with suppress(django.db.Error):
            self._beat()

    def _note(self) -> bool:
        """Tell the source how far the cluster is known; return whether all is that can be."""
        states = [watch.state for watch in (self._services, self._backends)]
        has_backends = not self._has.isdisjoint([ENDPOINTS, ENDPOINTSLICES])
        is_complete = SERVICES in self._has and (has_backends or self._backends.state.phase in _REFUSED)
        unknown = [] if has_backends else [*configs.OF_ENDPOINTS, instrumentations.OF_INSTRUMENTATIONS]
        unknown += [one.beginning for one, watch in self._declared.items() if watch.resource not in self._has]
        self._source.note(
            complete=is_complete,
            refusals=[state.why for state in states if state.phase in _REFUSED],
            unknown=unknown,
            warnings=[
                *(f"problems are not shown at their objects: {why}" for why in self._events.refusals),
                *(f"statuses are not written: {why}" for why in self._statuses.refusals),
                *self._absences(),
                *(self._pods.refusals() if self._pods else ()),
            ],
        )
        return is_complete

    def _absences(self) -> Iterator[str]:
        """What to say of resources that are not read: it is as it should be, unless that is forbidden, or there were some."""
        for one, watch in self._declared.items():
            state, is_listed = watch.state, watch.resource in self._has
            had = self._source.mirror.has_any(watch.resource) if is_listed else one in self._had
            if state.phase is Phase.REFUSED or (state.phase is Phase.MISSING and had):
                yield f"{one.name} are not read: {state.why}{'; what they sent stays' if had else ''}"

    def _update_statuses(self) -> None:
        """Let statuses be written of what is declared: each two seconds, and after each sync."""
        began = time.monotonic()
        if self._standings and self._was_synced and began >= self._statuses_due:
            mirror = self._source.mirror
            # What is passed over is said by those who run it.
            instrumented = [one for one in mirror.instrumentations() if not one.passed_over]
            said = wanted(mirror.clusterchecks(), self._problems, self._passed_over, self._standings, instrumented)
            self._statuses.want(said)
            now = time.monotonic()
            # A sync may ask for it sooner, but not all the time.
            self._statuses_earliest = now + (now - began) / STATUSES_SHARE
            self._statuses_due = max(now + STATUSES, self._statuses_earliest)

    def _beat(self) -> None:
        """Store what the watches are doing: when that changed, and now and then as a sign of life."""
        state = described(self._watcher.watches) | ({"phase": "failing", "why": self._failure} if self._failure else {})
        if state == self._state and time.monotonic() - self._beaten < BEAT:
            return
        is_read = self._was_synced and state["phase"] == Phase.WATCHING.value
        Source.objects.note_watch(KUBERNETES, state, read=is_read)
        self._state, self._beaten = state, time.monotonic()


def described(watches: Sequence[Watch]) -> dict[str, Any]:
    """Return the state of watches as people see it: of each, and of all of them, which is that of the first that does not watch.

    A refused one, or one that is not there, does not count while another watches: it has a problem of its own.
    """
    states = [watch.state for watch in watches]
    rows = [
        {"resource": str(watch.resource), "phase": state.phase.value, "since": _moment(state.since), "why": state.why}
        for watch, state in zip(watches, states, strict=True)
    ]
    first, *others = rows
    waiting = [row for row in others if row["phase"] in (Phase.LISTING.value, Phase.AWAY.value)]
    together = first if first["phase"] != Phase.WATCHING.value or not waiting else waiting[0]
    return {name: together[name] for name in ("phase", "since", "why")} | {"watches": rows}


def _moment(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


def note_unwatched() -> None:
    """Say in the source's row, if there is one, that this leader follows no cluster.

    What it has sent stays. If Kubernetes is off on purpose, operators may accept that it goes.
    """
    why = (
        "CLUSTERAGENT_KUBERNETES is off at the leader"
        if conf.KUBERNETES == "off"
        else "the leader runs in no cluster, and has no CLUSTERAGENT_KUBECONFIG"
    )
    state = {"phase": "off", "since": _moment(datetime.now(UTC)), "why": f"{why} ({conf.REPLICA})"}
    Source.objects.note_watch(KUBERNETES, state, read=False)
    Pod.objects.all().delete()
    if conf.KUBERNETES == "off":
        Source.objects.filter(name=KUBERNETES).update(held_removals=sorted(origins.known(KUBERNETES)))


def follow(term: int, standings: Standings) -> Never:
    """Follow the cluster that the options name. Raises NotLeader when the term is over."""
    Follower(term, access.choose(conf.KUBECONFIG), options.read(), standings).run()
