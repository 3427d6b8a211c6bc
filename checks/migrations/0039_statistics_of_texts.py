"""What PostgreSQL knows of the displayed texts: whether a search finds few of them or most. Without it, it takes all for few."""

from django.db import migrations

CREATE = 'CREATE STATISTICS config_texts ON (lower(text COLLATE "C")) FROM checks_config'


class Migration(migrations.Migration):
    dependencies = [("checks", "0038_plans_of_orders")]
    operations = [
        migrations.RunSQL(CREATE, "DROP STATISTICS config_texts"),
        # It blocks no writer, and reads a sample.
        migrations.RunSQL("ANALYZE checks_config", migrations.RunSQL.noop),
    ]
