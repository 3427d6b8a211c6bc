from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("nodes", "0016_last_heard")]
    operations = [
        migrations.AddField("runner", "overloaded_since", models.DateTimeField(null=True)),
        migrations.AddField("runner", "overloaded_rounds", models.PositiveSmallIntegerField(db_default=0)),
    ]
