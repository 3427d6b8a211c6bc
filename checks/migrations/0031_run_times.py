from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0030_find_by_title")]
    operations = [migrations.AddField("cost", "seconds", models.FloatField(null=True))]
