"""What each account did in a GitLab project: merge requests authored, reviewed, approved and merged (metrics 2.11).

One row an account, with the person whose it is. Nobody's review of a merge request of their own counts, from whichever
of their accounts.
"""

from __future__ import annotations

from models.store.summaries.definition import Summary
from models.tables import METADATA

KEYS_OF_MARKS = {
    "key": """
    SELECT CAST(substring(key FROM '^([0-9]+):') AS bigint) AS connection_id,
           substring(key FROM '^[0-9]+:(.+)$') AS external_project_id
    FROM marks WHERE key ~ '^[0-9]+:.'
""",
    "account": """
    SELECT a.connection_id, a.external_project_id
    FROM (SELECT tenant_id, substring(key FROM '^account:(.+)$') AS account_id FROM marks) AS m
    JOIN gitlab_mr_activities a USING (tenant_id, account_id)
""",
}

ALL_KEYS = """
    SELECT connection_id, external_project_id FROM gitlab_mr_activities
    WHERE (CAST(:project_id AS bigint) IS NULL OR project_id = :project_id)
      AND (CAST(:tenants AS bigint[]) IS NULL OR tenant_id = ANY(:tenants))
    UNION
    SELECT connection_id, external_project_id FROM gitlab_mr_contributors
    WHERE (CAST(:project_id AS bigint) IS NULL OR project_id = :project_id)
      AND (CAST(:tenants AS bigint[]) IS NULL OR tenant_id = ANY(:tenants))
"""

# What a deleted account did to another deleted account's merge request cannot be told from its own.
ROWS = """
    WITH activity AS (
        SELECT a.tenant_id, a.connection_id, a.external_project_id, a.mr_id, a.activity, a.project_id, a.account_id,
            COALESCE(u.username, a.username, 'ghost') AS username,
            u.user_id, u.person_id, u.display_name, u.email, COALESCE(u.is_bot, false) AS is_bot,
            -- A window and not a join with the authors: of a join with itself the planner knows nothing and may take
            -- every pair.
            bool_or(a.activity = 'authored') OVER (
                PARTITION BY a.connection_id, a.external_project_id, a.mr_id,
                    COALESCE(u.person_id::text, a.account_id, a.username, 'ghost')) AS is_author
        FROM wanted w
        JOIN gitlab_mr_activities a USING (connection_id, external_project_id)
        JOIN connections n ON n.id = a.connection_id
        LEFT JOIN user_identities u
            ON u.tenant_id = a.tenant_id AND u.source = n.kind AND u.external_id = a.account_id
    ), latest AS (
        SELECT DISTINCT ON (connection_id, external_project_id)
            connection_id, external_project_id, m.project_name, m.project_id
        FROM wanted w JOIN gitlab_mr_lead_times m USING (connection_id, external_project_id)
        ORDER BY connection_id, external_project_id, m.source_updated_at DESC, m.mr_id DESC
    ), counted AS (
        SELECT a.tenant_id, a.connection_id, a.external_project_id, a.username,
            max(a.project_id) AS project_id,
            (array_agg(a.user_id ORDER BY a.account_id, a.user_id))[1] AS user_id,
            (array_agg(a.person_id ORDER BY a.account_id, a.person_id))[1] AS person_id,
            (array_agg(a.display_name ORDER BY a.account_id, a.display_name))[1] AS name,
            (array_agg(a.email ORDER BY a.account_id, a.email))[1] AS email,
            bool_or(a.is_bot) AS is_bot,
            count(DISTINCT a.mr_id) FILTER (WHERE a.activity = 'authored') AS authored,
            count(DISTINCT a.mr_id) FILTER (WHERE a.activity = 'reviewed' AND NOT a.is_author) AS reviewed,
            count(DISTINCT a.mr_id) FILTER (WHERE a.activity = 'approved' AND NOT a.is_author) AS approved,
            count(DISTINCT a.mr_id) FILTER (WHERE a.activity = 'merged') AS merged
        FROM activity a
        GROUP BY a.tenant_id, a.connection_id, a.external_project_id, a.username
    )
    SELECT c.tenant_id, c.connection_id, COALESCE(l.project_id, c.project_id) AS project_id, c.external_project_id,
        COALESCE(l.project_name, c.external_project_id) AS project_name, c.username, c.user_id,
        c.person_id, c.name, c.email,
        c.is_bot, c.authored, c.reviewed, c.approved, c.merged
    FROM counted c LEFT JOIN latest l USING (connection_id, external_project_id)
    WHERE c.authored + c.reviewed + c.approved + c.merged > 0
"""

SUMMARY = Summary(
    name="gitlab_mr_contributors",
    table=METADATA.tables["gitlab_mr_contributors"],
    key=("connection_id", "external_project_id"),
    identity=("tenant_id", "connection_id", "external_project_id", "username"),
    definition_version=2,
    keys_of_marks=KEYS_OF_MARKS,
    all_keys=ALL_KEYS,
    rows=ROWS,
)
