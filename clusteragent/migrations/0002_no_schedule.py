from django.db import migrations


class Migration(migrations.Migration):
    """Nobody runs schedules any more: the one that showed the background pass goes."""

    dependencies = [
        ("clusteragent", "0001_webhook"),
        ("django_q", "0018_task_success_index"),
    ]

    operations = [
        migrations.RunSQL("DELETE FROM django_q_schedule WHERE name = 'background pass'", migrations.RunSQL.noop),
    ]
