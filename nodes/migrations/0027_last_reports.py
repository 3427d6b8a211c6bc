from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("nodes", "0026_printable_rules")]
    operations = [
        migrations.AddField("nodeevent", "address", models.GenericIPAddressField(null=True)),
        migrations.AddField("nodeevent", "node_type", models.PositiveSmallIntegerField(null=True)),
    ]
