from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0043_last_good_runs_and_plan_sizes")]
    operations = [
        migrations.AddField("clusterhistory", "assumed", models.BooleanField(db_default=False)),
        migrations.AddField("nodehistory", "assumed", models.BooleanField(db_default=False)),
    ]
