"""What node agents' calls ask is planned once and for all, maybe while tables are empty: as these grow, it must not read more."""

from typing import Any

import psycopg
import pytest
from django.db import connection

from checks import dispatcher
from checks.models import Config
from checks.tests.cast import report, sent

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("warm")]

NODES, CONFIGS = 200, 3000
# statement: (its text, types of its parameters, their values)
# statement: (its text, types of its parameters, their values)
STATEMENTS = {
    "configs": (Config.objects.all()._SHARES, "text[]", "array['node-7']"),
    "endpoints' configs": (Config.objects.all()._ENDPOINTS_OF_NODE, "text", "'node-7'"),
}


def most_read(plan: dict[str, Any]) -> tuple[int, str]:
    """The most rows that a scan or a join of a plan looked at, those included that it left out; and where."""
    looked_at = sum(
        plan.get(key, 0) for key in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
    )
    own = int(looked_at * plan.get("Actual Loops", 0)), f"{plan['Node Type']} {plan.get('Index Name', '')}"
    return max([own, *map(most_read, plan.get("Plans", []))])


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_plan_from_when_tables_were_empty_reads_few_rows_when_they_are_full(name: str) -> None:
    text, types, values = STATEMENTS[name]
    report("node-7")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    parts = connection.settings_dict
    address = {"host": parts["HOST"], "port": parts["PORT"], "user": parts["USER"], "dbname": parts["NAME"]}
    # As the web server of node agents has them (clusteragent/settings.py).
    limits = "-c enable_seqscan=off -c jit=off"
    with psycopg.connect(**address, password=parts["PASSWORD"], autocommit=True, options=limits) as web:
        web.execute(f"PREPARE asked ({types}) AS {text.replace('%s', '$1')}")
        for _ in range(10):
            web.execute(f"EXECUTE asked ({values})")
        report(*(f"node-{number}" for number in range(NODES)))
        dispatcher.schedule([sent(f"config-{number}") for number in range(CONFIGS)])
        ((plan,),) = web.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({values})").fetchall()
        cached = web.execute("SELECT generic_plans > 0 FROM pg_prepared_statements WHERE name = 'asked'").fetchall()
    assert cached == [(True,)]
    assert most_read(plan[0]["Plan"]) <= (2 * CONFIGS / NODES, "")
