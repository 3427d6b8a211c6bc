"""The dispatcher: every verb that changes who runs what.

Each verb locks the one ClusterStore row in a short transaction, writes what it moved to the ledger, and returns those
moves. What people order is decided before that (`deciding`), and done if nothing that it was decided on changed
(`commit`). Given a `term`, it raises NotLeader instead of writing once that term is over. Verbs that touch many configs work in
chunks, each locking anew and complete in itself, so that nobody waits half a second for the lock; inside of another
transaction they raise RuntimeError, but for `as_one`.
"""

from checks.dispatcher.admission import Refused, admit
from checks.dispatcher.changes import Sent
from checks.dispatcher.committing import at_once, commit
from checks.dispatcher.deciding import REFUSALS, NotAccepting, NotDispatchable
from checks.dispatcher.decision import Decision, Step
from checks.dispatcher.orders import Undone, isolate, pause, pin, reassign, release, resume, undo, unpin
from checks.dispatcher.passes import Pass, run_pass
from checks.dispatcher.placing import NO_PILE_UP, disown, expire_nodes, redispatch, schedule, unschedule
from checks.dispatcher.staleness import StalePlan
from checks.dispatcher.transaction import CHUNK, as_one, told
from checks.dispatcher.undoing import why_not
from checks.dispatcher.upkeep import budget, budget_left, drain, give_away, heed_declarations, put_right, resume_due
from checks.models.map import NotLeader

__all__ = [
    "CHUNK", "NO_PILE_UP", "REFUSALS", "Decision", "NotAccepting", "NotDispatchable", "NotLeader", "Pass", "Refused", "Sent",
    "StalePlan", "Step", "Undone", "admit", "as_one", "at_once", "budget", "budget_left", "commit", "disown", "drain",
    "expire_nodes", "give_away",
    "heed_declarations", "isolate", "pause", "pin", "put_right", "reassign", "redispatch", "release", "resume", "resume_due",
    "run_pass", "schedule", "told", "undo", "unpin", "unschedule", "why_not",
]  # fmt: skip
