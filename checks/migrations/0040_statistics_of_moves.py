"""What PostgreSQL knows of what groups moves into stories: few values of each. Without it, it sorts all moves of an hour."""

from django.db import migrations

GROUPS = {
    "move_rules": "why ->> 'forbidden_by'",
    "move_choices": "why IS NOT NULL",
    "move_minutes": "date_bin('1 minute', time, 'epoch')",
}


class Migration(migrations.Migration):
    dependencies = [("checks", "0039_statistics_of_texts")]
    operations = [
        *(
            migrations.RunSQL(f"CREATE STATISTICS {name} ON ({column}) FROM checks_move", f"DROP STATISTICS {name}")
            for name, column in GROUPS.items()
        ),
        # It blocks no writer, and reads a sample.
        migrations.RunSQL("ANALYZE checks_move", migrations.RunSQL.noop),
    ]
