"""What each account did in a project in a month of its time zone (metrics 2.11).

One row an account, with the person whose it is; the rows of a person add up. A person approves a merge request once
in a month, and never one of their own, from whichever account. Two connections to one instance count once.
"""

from __future__ import annotations

from models.store.summaries.definition import Summary
from models.tables import METADATA

# What an account contributes by: the rows that a month is counted from.
MONTHS_OF_PROJECT = """
    SELECT local_day(a.occurred_at, p.timezone) AS date FROM gitlab_mr_activities a
    WHERE a.project_id = p.id AND a.activity IN ('authored', 'approved')
    UNION
    SELECT local_day(e.occurred_at, p.timezone) FROM gitlab_events e WHERE e.project_id = p.id
    UNION
    SELECT make_date(s.year, s.month, 1) FROM monthly_contributions s WHERE s.project_id = p.id
"""

MONTH_OF_DATE = """
    SELECT project_id, CAST(EXTRACT(year FROM date) AS integer) AS year,
           CAST(EXTRACT(month FROM date) AS integer) AS month
    FROM (
"""

ALL_MONTHS = f"""
    {MONTH_OF_DATE}
        SELECT p.id AS project_id, k.date
        FROM marks m
        {{joins}}
        CROSS JOIN LATERAL ({MONTHS_OF_PROJECT}) AS k
    ) AS k
"""

KEYS_OF_MARKS = {
    "key": f"""
    {MONTH_OF_DATE}
        SELECT CAST(substring(key FROM '^([0-9]+):') AS bigint) AS project_id,
               to_date(substring(key FROM '^[0-9]+:([0-9]{{4}}-[0-9]{{2}})$'), 'YYYY-MM') AS date
        FROM marks WHERE key ~ '^[0-9]+:[0-9]{{4}}-[0-9]{{2}}$'
    ) AS k
""",
    # A day of UTC touches one or two local days.
    "day": f"""
    {MONTH_OF_DATE}
        SELECT p.id AS project_id, d.date
        FROM (
            SELECT CAST(substring(key FROM '^([0-9]+)@') AS bigint) AS project_id,
                   CAST(substring(key FROM '^[0-9]+@([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})$') AS date) AS day
            FROM marks
        ) AS m
        JOIN projects p ON p.id = m.project_id
        CROSS JOIN LATERAL (VALUES
            (local_day(m.day::timestamp AT TIME ZONE 'UTC', p.timezone)),
            (local_day((m.day + 1)::timestamp AT TIME ZONE 'UTC' - interval '1 microsecond', p.timezone))) AS d(date)
        WHERE m.day IS NOT NULL
    ) AS k
""",
    "number": ALL_MONTHS.format(joins="JOIN projects p ON p.id = CAST(substring(m.key FROM '^[0-9]+$') AS bigint)"),
    "connection": ALL_MONTHS.format(
        joins="JOIN sync_scopes s ON s.connection_id = CAST(substring(m.key FROM '^connection:([0-9]+)$') AS bigint) "
        "JOIN projects p ON p.id = s.project_id"
    ),
    "mr": f"""
    {MONTH_OF_DATE}
        SELECT p.id AS project_id, local_day(a.occurred_at, p.timezone) AS date
        FROM (
            SELECT CAST(substring(key FROM '^mr:([0-9]+):') AS bigint) AS connection_id,
                   substring(key FROM '^mr:[0-9]+:(.*):[0-9]+$') AS external_project_id,
                   CAST(substring(key FROM '^mr:.*:([0-9]+)$') AS bigint) AS mr_id
            FROM marks
        ) AS m
        JOIN gitlab_mr_activities a USING (connection_id, external_project_id, mr_id)
        JOIN projects p ON p.id = a.project_id
        WHERE a.activity IN ('authored', 'approved')
    ) AS k
""",
    "account": f"""
    {MONTH_OF_DATE}
        SELECT p.id AS project_id, local_day(a.occurred_at, p.timezone) AS date
        FROM (SELECT tenant_id, substring(key FROM '^account:(.+)$') AS account_id FROM marks) AS m
        JOIN (
            SELECT tenant_id, account_id, project_id, occurred_at FROM gitlab_mr_activities
            WHERE activity IN ('authored', 'approved')
            UNION ALL
            SELECT tenant_id, author_id, project_id, occurred_at FROM gitlab_events
        ) AS a USING (tenant_id, account_id)
        JOIN projects p ON p.id = a.project_id
    ) AS k
""",
}

ALL_KEYS = f"""
    SELECT DISTINCT p.id AS project_id, CAST(EXTRACT(year FROM k.date) AS integer) AS year,
           CAST(EXTRACT(month FROM k.date) AS integer) AS month
    FROM projects p CROSS JOIN LATERAL ({MONTHS_OF_PROJECT}) AS k
    WHERE (CAST(:project_id AS bigint) IS NULL OR p.id = :project_id)
      AND (CAST(:tenants AS bigint[]) IS NULL OR p.tenant_id = ANY(:tenants))
"""

ROWS = """
    WITH month AS MATERIALIZED (
        SELECT w.project_id, w.year, w.month, p.tenant_id,
            make_date(w.year, w.month, 1)::timestamp AT TIME ZONE p.timezone AS begins_at,
            (make_date(w.year, w.month, 1) + interval '1 month') AT TIME ZONE p.timezone AS ends_at
        FROM wanted w JOIN projects p ON p.id = w.project_id
    ), instance AS (
        SELECT id AS connection_id, kind AS source,
            lower(rtrim(regexp_replace(base_url, '^[A-Za-z]+://', ''), '/')) AS instance
        FROM connections
    ), activity AS MATERIALIZED (
        SELECT m.project_id, m.year, m.month, m.tenant_id, n.source, n.instance, a.connection_id, a.external_project_id,
            a.mr_id, a.activity, a.account_id, a.username,
            COALESCE(u.person_id::text, a.account_id, a.username, 'ghost') AS actor
        FROM month m
        JOIN gitlab_mr_activities a
            ON a.project_id = m.project_id AND a.occurred_at >= m.begins_at AND a.occurred_at < m.ends_at
        JOIN instance n USING (connection_id)
        LEFT JOIN user_identities u
            ON u.tenant_id = m.tenant_id AND u.source = n.source AND u.external_id = a.account_id
        WHERE a.activity IN ('authored', 'approved')
    ), approval AS (
        SELECT DISTINCT ON (a.project_id, a.year, a.month, a.instance, a.external_project_id, a.mr_id, a.actor) a.*
        FROM activity a
        WHERE a.activity = 'approved' AND NOT EXISTS (
            SELECT FROM gitlab_mr_activities o
            LEFT JOIN user_identities u
                ON u.tenant_id = a.tenant_id AND u.source = a.source AND u.external_id = o.account_id
            WHERE o.connection_id = a.connection_id AND o.external_project_id = a.external_project_id
              AND o.mr_id = a.mr_id AND o.activity = 'authored'
              AND COALESCE(u.person_id::text, o.account_id, o.username, 'ghost') = a.actor)
        ORDER BY a.project_id, a.year, a.month, a.instance, a.external_project_id, a.mr_id, a.actor, a.account_id,
            a.username
    ), event AS MATERIALIZED (
        SELECT DISTINCT ON (m.project_id, m.year, m.month, n.instance, e.external_id)
            m.project_id, m.year, m.month, m.tenant_id, n.source, e.author_id AS account_id, e.author AS username,
            COALESCE(e.push_ref_type = 'branch' AND e.push_action <> 'removed', false) AS is_push
        FROM month m
        JOIN gitlab_events e
            ON e.project_id = m.project_id AND e.occurred_at >= m.begins_at AND e.occurred_at < m.ends_at
        JOIN instance n USING (connection_id)
        ORDER BY m.project_id, m.year, m.month, n.instance, e.external_id, e.connection_id
    ), deed AS (
        SELECT project_id, year, month, tenant_id, source, account_id, username,
            ARRAY[instance, external_project_id, mr_id::text] AS created, CAST(NULL AS text[]) AS approved,
            CAST(NULL AS boolean) AS is_push
        FROM activity WHERE activity = 'authored'
        UNION ALL
        SELECT project_id, year, month, tenant_id, source, account_id, username,
            NULL, ARRAY[instance, external_project_id, mr_id::text], NULL
        FROM approval
        UNION ALL
        SELECT project_id, year, month, tenant_id, source, account_id, username, NULL, NULL, is_push FROM event
    ), named AS (
        SELECT d.project_id, d.year, d.month, d.tenant_id, d.account_id, d.created, d.approved, d.is_push,
            COALESCE(u.username, d.username, 'ghost') AS username,
            u.user_id, u.person_id, u.display_name, COALESCE(u.is_bot, false) AS is_bot
        FROM deed d
        LEFT JOIN user_identities u
            ON u.tenant_id = d.tenant_id AND u.source = d.source AND u.external_id = d.account_id
    )
    SELECT n.tenant_id, n.year, n.month,
        (ARRAY['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October',
               'November', 'December'])[n.month] AS month_name,
        n.username,
        (array_agg(n.user_id ORDER BY n.account_id, n.user_id))[1] AS user_id,
        (array_agg(n.person_id ORDER BY n.account_id, n.person_id))[1] AS person_id,
        (array_agg(n.display_name ORDER BY n.account_id, n.display_name))[1] AS name,
        CAST(NULL AS text) AS squad, bool_or(n.is_bot) AS is_bot, n.project_id,
        count(DISTINCT n.created) AS mr_created, count(DISTINCT n.approved) AS mr_approved,
        count(*) FILTER (WHERE n.is_push) AS repo_pushes, count(n.is_push) AS total_events
    FROM named n
    GROUP BY n.tenant_id, n.project_id, n.year, n.month, n.username
"""

SUMMARY = Summary(
    name="monthly_contributions",
    table=METADATA.tables["monthly_contributions"],
    key=("project_id", "year", "month"),
    identity=("tenant_id", "year", "month", "username", "project_id"),
    definition_version=2,
    keys_of_marks=KEYS_OF_MARKS,
    all_keys=ALL_KEYS,
    rows=ROWS,
)
