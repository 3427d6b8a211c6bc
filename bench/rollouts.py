"""What do rollouts of all node agents cost the checks?"""

from bench import fleet
from bench.report import Report

NODES, CONFIGS = 300, 5000
DELAY = "15..40"
# {kind: (seconds over which nodes are replaced, delay of a new node's start in seconds)}. The last nodes expire 30 s later.
ROLLOUTS = {"rolling": (300, "0..0"), "surge": (180, DELAY), "recreate": (0, DELAY)}
AFTER = fleet.SETTLED + 5


def run(report: Report) -> None:
    """Simulate each kind of rollout, and report moves, gaps and the brake."""
    for kind, (over, delay) in ROLLOUTS.items():
        plan = (f"--rollout={kind}", f"--rollout-after={AFTER}", f"--over={over}", f"--start-delay={delay}")
        outcome = fleet.simulate(NODES, CONFIGS, AFTER + over + 120, *plan)
        account = outcome.account
        name = f"rollout of 300 nodes with 5 000 configs, {kind}: moves of a check (mean)"
        report.add(name, fleet.moved() / CONFIGS, "moves", floor=1, most=1.1)
        report.add("  of which a node noticed", account["restarts"]["moved"] / CONFIGS, "moves")
        fair = CONFIGS / NODES
        report.add("  most on one node, in fair shares", account["most_on_one_node"]["checks"] / fair, "times", most=2)
        report.add("  checks that nobody runs at the end", CONFIGS - account["checks"]["running"], "checks", most=0)
        report.add("  without a runner, mean of a check that moved", account["without_runner"]["mean"], "s")
        report.add("  longest without a runner", account["without_runner"]["longest"], "s")
        report.add("  brake on", outcome.braked, "s", most=None if kind == "recreate" else 0)
