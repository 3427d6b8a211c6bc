from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0021_orders_of_sources")]
    operations = [migrations.AddField("source", "left_out", models.JSONField(default=dict, db_default={}))]
