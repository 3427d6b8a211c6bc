"""The dispatcher: every verb that changes who runs what.

Each verb locks the one ClusterStore row in a short transaction, writes what it moved to the ledger, and returns those
moves. What people order is decided before that (`deciding`), and done if nothing that it was decided on changed
(`commit`). Given a `term`, it raises NotLeader instead of writing once that term is over. Verbs that touch many configs work in
chunks, each locking anew and complete in itself, so that nobody waits half a second for the lock; inside of another
transaction they raise RuntimeError, but for `single_transaction`.
"""

from checks.dispatcher.admission import Refused, admit
from checks.dispatcher.changes import Sent
from checks.dispatcher.committing import commit, decide_and_commit
from checks.dispatcher.deciding import REFUSALS, NotAccepting, NotDispatchable
from checks.dispatcher.decision import Decision, Step
from checks.dispatcher.orders import Undone, isolate, pause, pin, reassign, release, resume, undo, unpin
from checks.dispatcher.passes import Pass, run_pass
from checks.dispatcher.placing import NO_PILE_UP, expire_nodes, name_other_origins, redispatch, schedule, unschedule
from checks.dispatcher.staleness import StalePlan
from checks.dispatcher.transaction import CHUNK, described, single_transaction
from checks.dispatcher.undoing import undo_refusals
from checks.dispatcher.upkeep import (
    apply_declarations,
    budget,
    budget_left,
    drain,
    empty_leaving_nodes,
    move_misplaced,
    resume_due,
)
from checks.models.map import NotLeader

__all__ = [
    "CHUNK",
    "NO_PILE_UP",
    "REFUSALS",
    "Decision",
    "NotAccepting",
    "NotDispatchable",
    "NotLeader",
    "Pass",
    "Refused",
    "Sent",
    "StalePlan",
    "Step",
    "Undone",
    "admit",
    "apply_declarations",
    "budget",
    "budget_left",
    "commit",
    "decide_and_commit",
    "described",
    "drain",
    "empty_leaving_nodes",
    "expire_nodes",
    "isolate",
    "move_misplaced",
    "name_other_origins",
    "pause",
    "pin",
    "reassign",
    "redispatch",
    "release",
    "resume",
    "resume_due",
    "run_pass",
    "schedule",
    "single_transaction",
    "undo",
    "undo_refusals",
    "unpin",
    "unschedule",
]  # fmt: skip
