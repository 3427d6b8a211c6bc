from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("checks", "0009_count_decisions"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="config",
            name="config_of_lost_node",
        ),
    ]
