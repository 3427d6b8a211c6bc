"""The dispatcher: every verb that changes who runs what.

Each verb locks the one ClusterStore row in a short transaction, writes its moves to the ledger, and returns them. An order
of a person is decided before that, without the lock (`deciding`), and committed if nothing that was read for it has changed
(`commit`). With a `term`, a verb raises NotLeader instead of writing once that term is over.

A verb that changes more than CHUNK configs is not atomic: it works in chunks, and each chunk is a transaction that takes the
lock anew, so that nobody waits half a second for it. Inside of another transaction verbs raise RuntimeError, except inside
`single_transaction`.
"""

from checks.dispatcher.changes import Sent
from checks.dispatcher.committing import StalePlan, commit, decide_and_commit, why_stale
from checks.dispatcher.deciding import REFUSALS, NotAccepting, NotDispatchable, NotTheirs, undo_refusals
from checks.dispatcher.decision import Decision, Placement
from checks.dispatcher.orders import (
    Undone,
    cordon,
    forget_waiting,
    isolate,
    pause,
    pin,
    reassign,
    release,
    resume,
    store_waiting,
    undo,
    unpin,
)
from checks.dispatcher.passes import (
    Pass,
    budget,
    budget_left,
    empty_leaving_nodes,
    move_misplaced,
    reconcile,
    resume_due,
    run_pass,
)
from checks.dispatcher.placing import (
    NO_PILE_UP,
    Refused,
    admit,
    expire_nodes,
    name_other_origins,
    redispatch,
    require_admissible,
    schedule,
    unschedule,
)
from checks.dispatcher.transaction import CHUNK, described, single_transaction
from checks.models.bounds import Outside
from checks.models.map import NotLeader

__all__ = [
    "CHUNK", "NO_PILE_UP", "REFUSALS", "Decision", "NotAccepting", "NotDispatchable", "NotLeader", "NotTheirs", "Outside", "Pass",
    "Placement", "Refused", "Sent", "StalePlan", "Undone", "admit", "budget", "budget_left", "commit", "cordon",
    "decide_and_commit", "described", "empty_leaving_nodes", "expire_nodes", "forget_waiting", "isolate",
    "move_misplaced", "name_other_origins", "pause", "pin", "reassign", "reconcile", "redispatch", "release",
    "require_admissible", "resume", "resume_due", "run_pass", "schedule", "single_transaction", "store_waiting", "undo",
    "undo_refusals", "unpin", "unschedule", "why_stale",
]  # fmt: skip
