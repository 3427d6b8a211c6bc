import django.db.models.functions.datetime
from django.db import migrations, models

import nodes.models.tokens


class Migration(migrations.Migration):
    dependencies = [
        ("nodes", "0020_in_order"),
    ]

    operations = [
        migrations.CreateModel(
            name="NodeToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(editable=False, max_length=11, unique=True, verbose_name="begins with")),
                ("digest", models.BinaryField(unique=True)),
                (
                    "note",
                    models.CharField(
                        help_text="Whose it is. Who is refused reads it: runners in zone b",
                        max_length=100,
                        validators=[nodes.models.tokens.validate_words],
                    ),
                ),
                (
                    "pattern",
                    models.CharField(
                        help_text="The names that it opens, with * and ?: runner-*",
                        max_length=253,
                        validators=[nodes.models.tokens.validate_words],
                        verbose_name="nodes",
                    ),
                ),
                (
                    "kubernetes_pattern",
                    models.CharField(
                        blank=True,
                        help_text="Those whose endpoint checks it opens, with * and ?. Empty: none.",
                        max_length=253,
                        validators=[nodes.models.tokens.validate_words],
                        verbose_name="Kubernetes nodes",
                    ),
                ),
                (
                    "networks",
                    models.CharField(
                        blank=True,
                        help_text="Where it may be shown from: 10.1.0.0/16, fd00::/8. Empty: everywhere.",
                        max_length=500,
                        validators=[nodes.models.tokens.validate_networks],
                    ),
                ),
                (
                    "expires_at",
                    models.DateTimeField(blank=True, help_text="In UTC. Empty: never.", null=True, verbose_name="ends"),
                ),
                ("author", models.CharField(blank=True, editable=False, max_length=253, verbose_name="made by")),
                (
                    "time",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False, verbose_name="made"
                    ),
                ),
                ("last_used_at", models.DateTimeField(editable=False, null=True, verbose_name="last used")),
            ],
            options={
                "ordering": ["note", "id"],
                "default_permissions": ("add", "delete", "view"),
            },
        ),
    ]
