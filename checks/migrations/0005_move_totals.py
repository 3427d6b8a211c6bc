from typing import Any

from django.db import migrations, models, transaction

from clusteragent.lib.database.online import batches

# A trigger, so that every way of writing to the ledger counts, that of a replica of an older release too. Changes of the
# map come one after the other, so nobody waits for these rows.
COUNT = """
    CREATE OR REPLACE FUNCTION checks_count_moves() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO checks_movetotal AS t (reason, number)
        SELECT reason, count(*) FROM written GROUP BY reason ORDER BY reason
        ON CONFLICT (reason) DO UPDATE SET number = t.number + excluded.number;
        RETURN NULL;
    END $$;
    DROP TRIGGER IF EXISTS checks_move_counted ON checks_move;
    CREATE TRIGGER checks_move_counted AFTER INSERT ON checks_move
        REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION checks_count_moves();
    TRUNCATE checks_movetotal;
"""
FORGET = (
    "DROP TRIGGER checks_move_counted ON checks_move; DROP FUNCTION checks_count_moves(); DROP TABLE checks_movetotal;"
)
OF_BATCH = "SELECT reason, count(*) FROM checks_move WHERE id BETWEEN %s AND %s GROUP BY reason"
ADD = """
    INSERT INTO checks_movetotal AS t (reason, number) SELECT * FROM unnest(%s::text[], %s::bigint[])
    ON CONFLICT (reason) DO UPDATE SET number = t.number + excluded.number
"""


def count(apps: Any, editor: Any) -> None:
    """Let what is written from now on be counted, then count what was there. May be broken off, and begun anew."""
    with editor.connection.cursor() as cursor:
        with transaction.atomic():
            if "checks_movetotal" not in editor.connection.introspection.table_names(cursor):
                with editor.connection.schema_editor(atomic=False) as inner:
                    inner.create_model(apps.get_model("checks", "MoveTotal"))
            # Who writes to the ledger waits until this transaction ends, so that no move is counted twice, or not at all.
            cursor.execute(COUNT)
            before = list(batches(cursor, "checks_move"))
        totals: dict[str, int] = {}
        for batch in before:
            cursor.execute(OF_BATCH, batch)
            for reason, number in cursor.fetchall():
                totals[reason] = totals.get(reason, 0) + number
        # In the order in which the trigger takes the rows.
        cursor.execute(ADD, [sorted(totals), [totals[reason] for reason in sorted(totals)]])


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("checks", "0004_patched_with")]
    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name="MoveTotal",
                    fields=[
                        ("reason", models.CharField(max_length=16, primary_key=True, serialize=False)),
                        ("number", models.BigIntegerField(db_default=0)),
                    ],
                )
            ]
        ),
        migrations.RunPython(count, lambda apps, editor: editor.execute(FORGET)),
    ]
