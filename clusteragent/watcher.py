"""The process that watches Kubernetes for the leader of a term."""

import time

from checks.models import Source
from checks.models.configs import KUBERNETES
from clusteragent.child import Child

# A complete list of a large cluster takes a while to be looked through on a busy machine, between two signs of life.
STALE = 120.0
# Seconds between two starts of a process that fails, and between two looks at its sign of life.
PAUSE, LOOK = 10.0, 1.0


class Watcher(Child):
    """The process that watches Kubernetes for a term."""

    name = "watcher"
    stale = starting = STALE
    pause = PAUSE

    def __init__(self, term: int) -> None:
        super().__init__(term, "watchkubernetes", "--term", str(term))
        self._looked = 0.0

    def keep_alive(self) -> None:
        """Start the process if there is none, and replace one that fails; looks once a second."""
        if time.monotonic() - self._looked >= LOOK:
            self._looked = time.monotonic()
            super().keep_alive()

    def sign_of_life(self) -> object:
        """Return when it last noted what it is doing."""
        return Source.objects.filter(name=KUBERNETES).values_list("scanned_at", flat=True).first()
