"""Triggers that log every change of the watched tables, in the writer's own transaction, whoever the writer is.

One function serves all tables. It reads a table's columns from the catalogue and plans its statement anew each time:
a column that is added later is logged without a further migration, and a plan for one row never meets 100,000. What
each trigger tells it:

    left_out  columns that are never logged, beside those that are computed from others
    shown     what is logged in place of a column that may hold secrets, in SQL; `$` stands for the row
    joins     of the row `r` to the tables that say whose it is
    tenant    whose it is, in SQL

`watch_changes` puts the triggers on a table; a later migration calls it for a new one. See docs/change-capture.md.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# They say when somebody looked, not what was seen.
LEFT_OUT = (
    "updated_at", "synced_at", "last_synced_at", "last_updated_at", "last_ok_at", "last_used_at", "last_run_at",
    "last_scheduled_for", "next_run_at", "views_count",
)  # fmt: skip

OWN = ("", "r.tenant_id")
OF_PROJECT = ("LEFT JOIN projects p ON p.id = r.project_id", "p.tenant_id")
OF_RUN = ("LEFT JOIN test_runs u ON u.id = r.test_run_id LEFT JOIN projects p ON p.id = u.project_id", "p.tenant_id")
OF_PLAN = ("LEFT JOIN test_plans l ON l.id = r.test_plan_id LEFT JOIN projects p ON p.id = l.project_id", "p.tenant_id")
OF_CASE = ("LEFT JOIN test_cases c ON c.id = r.test_case_id", "c.tenant_id")
OF_CONNECTION = ("LEFT JOIN connections n ON n.id = r.connection_id", "n.tenant_id")
OF_REPOSITORY = ("LEFT JOIN repositories g ON g.id = r.repository_id", "g.tenant_id")

WATCHED = {
    "test_cases": OWN,
    "test_steps": OF_CASE,
    "test_plans": OF_PROJECT,
    "test_plan_test_cases": OF_PLAN,
    "test_runs": OF_PROJECT,
    "test_run_results": OF_RUN,
    "test_reports": OF_RUN,
    "allure_report": OWN,
    "bug_budget": OWN,
    "gitlab_mr_lead_times": OWN,
    "jira_lead_times": OWN,
    "documents": OWN,
    "projects": OWN,
    "repositories": OWN,
    "repository_configs": OF_REPOSITORY,
    "settings": OWN,
    "connections": OWN,
    "sync_scopes": OF_CONNECTION,
    "job_schedules": OWN,
    "hmac_secrets": OWN,
    "notification_channels": OWN,
    "notification_rules": OWN,
    "retention_policies": OWN,
}

SHOWN = {
    "connections": {
        "auth": "'***'::text",
        "base_url": "regexp_replace($.base_url, '//[^/]*@', '//***@')",
        "options": "without_secrets($.options)",
        "webhooks": "without_secrets($.webhooks)",
    },
    "sync_scopes": {"options": "without_secrets($.options)"},
    "job_schedules": {"args": "without_secrets($.args)"},
    "repository_configs": {"settings": "without_secrets($.settings)"},
    "settings": {
        "value": "CASE WHEN names_a_secret(concat_ws(' ', $.key, $.category, $.type)) THEN '***' ELSE $.value END",
    },
    "hmac_secrets": {"secret": "'***'::text"},
    "notification_channels": {"target": "'***'::text"},
}

SECRET_NAMES = (
    "secret", "passw", "passphrase", "token", "credential", "encrypted", "hmac", "cookie", "authorization",
    r"\mauth\M", "(private|api|access|signing)[ _.-]?key",
)  # fmt: skip
NAMES_A_SECRET = f"""
    CREATE FUNCTION names_a_secret(name text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN name ~* '{"|".join(SECRET_NAMES)}'
"""
WITHOUT_SECRETS = """
BEGIN
    RETURN CASE jsonb_typeof(value)
        WHEN 'object' THEN (
            SELECT coalesce(jsonb_object_agg(
                e.key, CASE WHEN names_a_secret(e.key) THEN '"***"' ELSE without_secrets(e.value) END), '{}')
            FROM jsonb_each(value) AS e)
        WHEN 'array' THEN (
            SELECT coalesce(jsonb_agg(without_secrets(e.value) ORDER BY e.position), '[]')
            FROM jsonb_array_elements(value) WITH ORDINALITY AS e(value, position))
        ELSE value END;
END
"""

# What the statements over a table's rows are made of. In them `r` is a row, of an update the row as it is, and `o` the
# row as it was. Of an update a field is written only where it changed: most do not, and building less is what makes
# capture cheap. Fields come in the order of jsonb, by length and then by letter, which saves it sorting them: a quarter
# of the time that a whole row takes. Where a secret is shown as `***`, so is what was there before.
CAPTURE_PARTS = r"""
BEGIN
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.position),
        string_agg(format('r.%I', a.attname), ', ' ORDER BY k.position),
        CASE WHEN count(*) = 1 THEN min(format('r.%I::text', a.attname)) ELSE string_agg(
            format($f$replace(replace(r.%I::text, '\', '\\'), ':', '\' || ':')$f$, a.attname), $f$ || ':' || $f$
            ORDER BY k.position) END
    INTO key_names, key_of_row, record_id
    FROM pg_index i
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = relation AND i.indisprimary;

    WITH fields AS (
        SELECT row_number() OVER (ORDER BY octet_length(attname::text), attname) AS position,
            format('%I', attname) AS quoted, to_json(attname::text) || ':' AS label,
            replace(shown ->> attname, '$', 'o') AS shown_before, replace(shown ->> attname, '$', 'r') AS shown_after
        FROM pg_attribute
        WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
            AND attname <> ALL (left_out)
    ), texts AS (
        SELECT position, label, format('%s AS %s', coalesce(shown_after, 'r.' || quoted), quoted) AS field,
            format(CASE WHEN shown_after IS NULL THEN 'o.%1$s IS DISTINCT FROM r.%1$s'
                ELSE 'o.%1$s IS DISTINCT FROM r.%1$s OR %2$s IS DISTINCT FROM %3$s' END,
                quoted, shown_before, shown_after) AS is_changed,
            format(CASE WHEN shown_after IS NULL THEN 'to_json(o.%1$s)::text'
                ELSE $f$CASE %3$s::text WHEN '***' THEN '"***"' ELSE to_json(%2$s)::text END$f$ END,
                quoted, shown_before, shown_after) AS before,
            format('to_json(%s)::text', coalesce(shown_after, 'r.' || quoted)) AS after
        FROM fields
    )
    SELECT format('to_jsonb((SELECT w FROM (SELECT %s) AS w))', string_agg(field, ', ' ORDER BY position)),
        string_agg(format($f$CASE WHEN %s THEN %L || coalesce(%s, 'null') END$f$,
            is_changed, label, before), ', ' ORDER BY position),
        string_agg(format($f$CASE WHEN %s THEN %L || coalesce(%s, 'null') END$f$,
            is_changed, label, after), ', ' ORDER BY position)
    INTO whole_row, fields_before, fields_after FROM texts;
END
"""

# Two things make an update more than rows that changed in place. A changed key: what stood under the old one is gone,
# and what stands under the new one is new. Two actions of foreign keys on one row: its first and its last state count.
CAPTURE_CHANGES = r"""
DECLARE
    changed_by CONSTANT text := coalesce(
        nullif(current_setting('plumbline.changed_by', true), ''), nullif(current_setting('role'), 'none'),
        session_user);
    source CONSTANT text := coalesce(
        nullif(current_setting('plumbline.source', true), ''), nullif(current_setting('application_name'), ''));
    joins CONSTANT text := TG_ARGV[2];
    tenant CONSTANT text := TG_ARGV[3];
    log CONSTANT text := 'INSERT INTO change_log (tenant_id, table_name, record_id, change_type, old_values, '
        'new_values, changed_by, transaction_id, source) ';
    rows_before text := 'old_rows';
    rows_after text := 'new_rows';
    is_in_place boolean := true;
    part record;
BEGIN
    IF current_setting('plumbline.capture', true) = 'off'
        OR EXISTS (SELECT FROM capture_switches s WHERE s.table_name = TG_TABLE_NAME AND NOT s.is_on)
    THEN RETURN NULL; END IF;
    CASE TG_OP
        WHEN 'INSERT' THEN IF NOT EXISTS (SELECT FROM new_rows) THEN RETURN NULL; END IF;
        WHEN 'TRUNCATE' THEN rows_before := format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME);
        ELSE IF NOT EXISTS (SELECT FROM old_rows) THEN RETURN NULL; END IF;
    END CASE;
    SELECT * INTO part FROM capture_parts(TG_RELID, TG_ARGV[0]::text[], TG_ARGV[1]::jsonb);

    IF TG_OP = 'UPDATE' THEN
        EXECUTE format('SELECT count(o) = count(*) AND count(r) = count(*) AND count(DISTINCT (%1$s)) = count(*) '
            'FROM (SELECT true AS o, %1$s FROM old_rows) AS b FULL JOIN (SELECT true AS r, %1$s FROM new_rows) AS a '
            'USING (%1$s)', part.key_names) INTO is_in_place;
        IF NOT is_in_place THEN
            rows_before := '(SELECT * FROM old_rows EXCEPT ALL SELECT * FROM new_rows)';
            rows_after := '(SELECT * FROM new_rows EXCEPT ALL SELECT * FROM old_rows)';
        END IF;
    END IF;
    IF TG_OP IN ('DELETE', 'TRUNCATE') OR NOT is_in_place THEN
        EXECUTE log || format($f$ SELECT %s, $1, %s, 'delete', %s, NULL, $2, $3, $4 FROM %s AS r %s $f$,
            tenant, part.record_id, part.whole_row, rows_before, joins)
            || CASE WHEN TG_OP = 'UPDATE' THEN format('WHERE (%s) NOT IN (SELECT %s FROM %s AS a)',
                part.key_of_row, part.key_names, rows_after) ELSE '' END
        USING TG_TABLE_NAME::text, changed_by, pg_current_xact_id()::text::bigint, source;
    END IF;
    IF TG_OP = 'INSERT' OR NOT is_in_place THEN
        EXECUTE log || format($f$ SELECT %s, $1, %s, 'insert', NULL, %s, $2, $3, $4 FROM %s AS r %s $f$,
            tenant, part.record_id, part.whole_row, rows_after, joins)
            || CASE WHEN TG_OP = 'UPDATE' THEN format('WHERE (%s) NOT IN (SELECT %s FROM %s AS b)',
                part.key_of_row, part.key_names, rows_before) ELSE '' END
        USING TG_TABLE_NAME::text, changed_by, pg_current_xact_id()::text::bigint, source;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        -- OFFSET 0 keeps the planner from computing the fields twice, once for the condition.
        EXECUTE log || format($f$
            SELECT tenant, $1, record, 'update', ('{' || before || '}')::jsonb, ('{' || after || '}')::jsonb, $2, $3, $4
            FROM (SELECT %s AS tenant, %s AS record, concat_ws(',', %s) AS before, concat_ws(',', %s) AS after
                  FROM %s AS o JOIN %s AS r USING (%s) %s OFFSET 0) AS changed
            WHERE after <> '' $f$,
            tenant, part.record_id, part.fields_before, part.fields_after, rows_before, rows_after, part.key_names,
            joins)
        USING TG_TABLE_NAME::text, changed_by, pg_current_xact_id()::text::bigint, source;
    END IF;
    RETURN NULL;
END
"""

# TRUNCATE shows no rows to a trigger, so they are read before they go.
WATCH_CHANGES = r"""
DECLARE
    each record;
BEGIN
    FOR each IN VALUES
        ('capture_insert', 'AFTER INSERT', 'REFERENCING NEW TABLE AS new_rows'),
        ('capture_update', 'AFTER UPDATE', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows'),
        ('capture_delete', 'AFTER DELETE', 'REFERENCING OLD TABLE AS old_rows'),
        ('capture_truncate', 'BEFORE TRUNCATE', '')
    LOOP
        EXECUTE format(
            'CREATE TRIGGER %s %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION capture_changes(%L, %L, %L, %L)',
            each.column1, each.column2, watched, each.column3, left_out, shown, joins, tenant);
    END LOOP;
END
"""


def upgrade() -> None:
    op.create_table(
        "capture_switches",
        sa.Column("table_name", sa.Text(), nullable=False, comment="A watched table"),
        sa.Column("is_on", sa.Boolean(), nullable=False, comment="False: its changes are not logged"),
        sa.Column("switched_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("switched_by", sa.Text(), server_default=sa.text("SESSION_USER"), nullable=False),
        sa.PrimaryKeyConstraint("table_name", name=op.f("pk_capture_switches")),
        comment="Tables whose changes are not logged, or were not for a time; a table without a row is logged.",
    )
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    path = f"SET search_path = {schema}, pg_temp"
    op.execute(NAMES_A_SECRET)
    op.execute(
        "CREATE FUNCTION without_secrets(value jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE "
        f"{path} AS $$ {WITHOUT_SECRETS} $$"
    )
    op.execute(
        "CREATE FUNCTION capture_parts(relation oid, left_out text[], shown jsonb, OUT key_names text, "
        "OUT key_of_row text, OUT record_id text, OUT whole_row text, OUT fields_before text, OUT fields_after text) "
        f"LANGUAGE plpgsql STABLE {path} AS $$ {CAPTURE_PARTS} $$"
    )
    # Times are logged in UTC, whatever the writer's zone. The planner knows nothing of the rows and expects millions:
    # it would compile for longer than the statement runs. The join of 100,000 wide rows would go through the disk.
    op.execute(
        f"CREATE FUNCTION capture_changes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER {path} "
        "SET timezone = 'UTC' SET standard_conforming_strings = on SET jit = off SET work_mem = '256MB' "
        f"AS $$ {CAPTURE_CHANGES} $$"
    )
    # A trigger's arguments become SQL that runs with the owner's rights: nobody else may make such a trigger.
    op.execute("REVOKE EXECUTE ON FUNCTION capture_changes() FROM PUBLIC")
    op.execute(
        "CREATE FUNCTION watch_changes(watched regclass, tenant text, joins text DEFAULT '', "
        "left_out text[] DEFAULT '{}', shown jsonb DEFAULT '{}') RETURNS void "
        f"LANGUAGE plpgsql {path} AS $$ {WATCH_CHANGES} $$"
    )
    watch = sa.text("SELECT watch_changes(CAST(:watched AS regclass), :tenant, :joins, :left_out, :shown)").bindparams(
        sa.bindparam("shown", type_=postgresql.JSONB)
    )
    for table, (joins, tenant) in WATCHED.items():
        given = {"joins": joins, "tenant": tenant, "left_out": list(LEFT_OUT)}
        op.get_bind().execute(watch, {"watched": table, "shown": SHOWN.get(table, {}), **given})


def downgrade() -> None:
    op.execute("DROP FUNCTION capture_changes() CASCADE")
    op.execute("DROP FUNCTION watch_changes(regclass, text, text, text[], jsonb)")
    op.execute("DROP FUNCTION capture_parts(oid, text[], jsonb)")
    op.execute("DROP FUNCTION without_secrets(jsonb)")
    op.execute("DROP FUNCTION names_a_secret(text)")
    op.drop_table("capture_switches")
