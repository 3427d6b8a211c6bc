from django.db import migrations, models

# A trigger, so that every way of writing to the ledger counts, that of a replica of an older release too. Changes of the
# map come one after the other, so nobody waits for these rows.
COUNT = """
    CREATE FUNCTION checks_count_moves() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO checks_movetotal AS t (reason, number)
        SELECT reason, count(*) FROM written GROUP BY reason ORDER BY reason
        ON CONFLICT (reason) DO UPDATE SET number = t.number + excluded.number;
        RETURN NULL;
    END $$;
    CREATE TRIGGER checks_move_counted AFTER INSERT ON checks_move
        REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION checks_count_moves();
    INSERT INTO checks_movetotal (reason, number) SELECT reason, count(*) FROM checks_move GROUP BY reason;
"""
FORGET = "DROP TRIGGER checks_move_counted ON checks_move; DROP FUNCTION checks_count_moves();"


class Migration(migrations.Migration):
    dependencies = [("checks", "0004_patched_with")]
    operations = [
        migrations.CreateModel(
            name="MoveTotal",
            fields=[
                ("reason", models.CharField(max_length=16, primary_key=True, serialize=False)),
                ("number", models.BigIntegerField(db_default=0)),
            ],
        ),
        migrations.RunSQL(COUNT, FORGET),
    ]
