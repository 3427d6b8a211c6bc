from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0018_states_of_tasks")]
    operations = [
        migrations.AddField("source", "accepted_removals", models.JSONField(default=list, db_default=[])),
        migrations.AddField("source", "state", models.JSONField(default=dict, db_default={})),
    ]
