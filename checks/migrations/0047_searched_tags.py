from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models, transaction

from clusteragent.lib.database.online import batches

# What checks/models/tags.py reads of a text. By the trigger, so that it is right for what a replica of an older release stores,
# too. An index holds items of 2.7 kB at most, and a query is shorter. The tags of a text are in its order.
READ = r"""
    ALTER TABLE checks_searchedtext
        ADD COLUMN IF NOT EXISTS tags text[],
        ADD COLUMN IF NOT EXISTS team text,
        ADD COLUMN IF NOT EXISTS patched_with varchar(64);
    CREATE OR REPLACE FUNCTION checks_tags_in(written text, OUT tags text[], OUT team text) LANGUAGE sql IMMUTABLE AS $$
        WITH items AS (
            SELECT rtrim(item, E' \n') AS tag, row_number() OVER () AS number
            FROM regexp_matches(written, '^(?:- |  )tags:\n((?:  - .*\n(?:(?: {4}.*| *)\n)*)+)', 'gn') AS list,
                regexp_split_to_table(list[1], '^  - ', 'n') AS item
            WHERE item <> ''
        )
        SELECT
            ARRAY(SELECT tag FROM items WHERE octet_length(tag) <= 2600 GROUP BY tag ORDER BY min(number)),
            coalesce((SELECT tag FROM items WHERE tag ~ '^["'']?team:(?!["'']?$)' ORDER BY number LIMIT 1), '')
    $$;
    CREATE OR REPLACE FUNCTION checks_fold_text() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO checks_searchedtext (config_id, folded, tags, team, patched_with)
        SELECT NEW.id, lower((NEW.title || E'\n' || NEW.text) COLLATE "C"), found.tags, found.team, NEW.patched_with
        FROM checks_tags_in(NEW.text) AS found
        ON CONFLICT (config_id) DO UPDATE
            SET folded = excluded.folded, tags = excluded.tags, team = excluded.team, patched_with = excluded.patched_with;
        RETURN NULL;
    END $$;
    DROP TRIGGER IF EXISTS checks_text_folded ON checks_config;
    CREATE TRIGGER checks_text_folded AFTER INSERT OR UPDATE OF title, text, patched_with ON checks_config
        FOR EACH ROW EXECUTE FUNCTION checks_fold_text();
"""
# Of a row that the trigger wrote meanwhile, the text that is read here may be an older one.
OF_BATCH = """
    UPDATE checks_searchedtext AS s SET (tags, team, patched_with) = (
        SELECT found.tags, found.team, c.patched_with FROM checks_tags_in(c.text) AS found
    )
    FROM checks_config AS c WHERE c.id = s.config_id AND c.id BETWEEN %s AND %s AND s.tags IS NULL
"""
ALL_READ = """
    ALTER TABLE checks_searchedtext
        ALTER COLUMN tags SET NOT NULL, ALTER COLUMN team SET NOT NULL, ALTER COLUMN patched_with SET NOT NULL
"""
FORGET = r"""
    CREATE OR REPLACE FUNCTION checks_fold_text() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO checks_searchedtext (config_id, folded) VALUES (NEW.id, lower((NEW.title || E'\n' || NEW.text) COLLATE "C"))
        ON CONFLICT (config_id) DO UPDATE SET folded = excluded.folded;
        RETURN NULL;
    END $$;
    DROP TRIGGER checks_text_folded ON checks_config;
    CREATE TRIGGER checks_text_folded AFTER INSERT OR UPDATE OF title, text ON checks_config
        FOR EACH ROW EXECUTE FUNCTION checks_fold_text();
    DROP FUNCTION checks_tags_in(text);
    ALTER TABLE checks_searchedtext DROP COLUMN tags, DROP COLUMN team, DROP COLUMN patched_with;
"""


def read(apps: Any, editor: Any) -> None:
    """Let the tags be read of what is stored from now on, then of what was there. May be broken off, and begun anew."""
    with editor.connection.cursor() as cursor:
        with transaction.atomic():
            cursor.execute(READ)
        for first, last in batches(cursor, "checks_config"):
            cursor.execute(OF_BATCH, [first, last])
        cursor.execute(ALL_READ)
        cursor.execute("ANALYZE checks_searchedtext")


def forget(apps: Any, editor: Any) -> None:
    with editor.connection.cursor() as cursor:
        cursor.execute(FORGET)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("checks", "0046_printable_rules")]
    operations = [
        migrations.SeparateDatabaseAndState(
            [migrations.RunPython(read, forget)],
            [
                migrations.AddField("searchedtext", "tags", ArrayField(models.TextField())),
                migrations.AddField("searchedtext", "team", models.TextField()),
                migrations.AddField("searchedtext", "patched_with", models.CharField(max_length=64)),
            ],
        )
    ]
