"""What the database itself refuses, whoever the writer is, and what a deletion leaves behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg.errors import CheckViolation, ForeignKeyViolation, UniqueViolation
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models.store.session import Database

pytestmark = pytest.mark.also_on_postgresql_15

HASH = "ab" * 32
GIVEN = f"""
    INSERT INTO users (id, name, email) VALUES (1, 'Ann', 'ann@corp'), (2, 'Bo', 'bo@corp');
    INSERT INTO projects (id, tenant_id, title, created_by) SELECT 1, id, 'Shop', 1 FROM tenants;
    INSERT INTO repositories (id, tenant_id, project_id, title, provider, external_id)
    SELECT 1, id, 1, 'shop', 'gitlab', 'shop' FROM tenants;
    INSERT INTO connections (id, tenant_id, kind, name, base_url, auth)
    SELECT 1, id, 'jira', 'j', 'http://j', '' FROM tenants;
    INSERT INTO test_cases (id, tenant_id, title) SELECT 1, id, 'pays' FROM tenants;
    INSERT INTO test_steps (test_case_id, position, action) VALUES (1, 0, 'open'), (1, 1, 'pay');
    INSERT INTO documents (id, tenant_id, project_id, title) SELECT 1, id, 1, 'Guide' FROM tenants;
    INSERT INTO document_comments (document_id, user_id, content, mentioned_user_ids) VALUES (1, 2, 'Good', '[1, 2]');
    INSERT INTO webhook_delivery_keys (connection_id, delivery_key) VALUES (1, 'k');
    INSERT INTO webhook_deliveries (connection_id, delivery_key, event_type, payload) VALUES (1, 'k', 'push', '{{}}');
    INSERT INTO notification_channels (id, tenant_id, kind, name, target) SELECT 1, id, 'slack', 'qa', 'x' FROM tenants;
    INSERT INTO personal_access_tokens (tokenable_type, tokenable_id, name, token_hash)
    VALUES ('user', 1, 'ci', '{HASH}');
    INSERT INTO hmac_secrets (tenant_id, name, secret) SELECT id, 'ci', 'x' FROM tenants;
    INSERT INTO settings (key, value) VALUES ('theme', 'dark');
"""

REFUSED = {
    "a token that is not hashed": (
        (
            "INSERT INTO personal_access_tokens (tokenable_type, tokenable_id, name, token_hash) "
            "VALUES ('user', 1, 'ci', 'plb_secret')"
        ),
        "ck_personal_access_tokens_token_hash_is_sha256",
    ),
    "a token twice": (
        (
            "INSERT INTO personal_access_tokens (tokenable_type, tokenable_id, name, token_hash) "
            f"VALUES ('user', 2, 'other', '{HASH}')"
        ),
        "uq_personal_access_tokens_token_hash",
    ),
    "an invitation that has expired before it is sent": (
        "INSERT INTO user_invitations (email, token, expires_at) VALUES ('a@b', 't', now() - interval '1 day')",
        "ck_user_invitations_ends_after_start",
    ),
    "two secrets of one name in use": (
        "INSERT INTO hmac_secrets (tenant_id, name, secret) SELECT id, 'ci', 'y' FROM tenants",
        "uq_hmac_secrets_name",
    ),
    "a setting for all twice": (
        "INSERT INTO settings (key, value) VALUES ('theme', 'light')",
        "uq_settings_tenant_id_key",
    ),
    "a webhook twice": (
        "INSERT INTO webhook_delivery_keys (connection_id, delivery_key) VALUES (1, 'k')",
        "pk_webhook_delivery_keys",
    ),
    "a version before the first": (
        (
            "INSERT INTO bot_rules (tenant_id, field, pattern, valid_from, version) "
            "SELECT id, 'username', '.*_bot', now(), 0 FROM tenants"
        ),
        "ck_bot_rules_version",
    ),
    "a first answer that may come after the resolution": (
        (
            "INSERT INTO sla_policies (tenant_id, name, response_seconds, resolution_seconds, valid_from) "
            "SELECT id, 'critical', 7200, 3600, now() FROM tenants"
        ),
        "ck_sla_policies_response_before_resolution",
    ),
    "a policy without a target": (
        "INSERT INTO sla_policies (tenant_id, name, valid_from) SELECT id, 'none', now() FROM tenants",
        "ck_sla_policies_has_a_target",
    ),
    "a budget of nothing": (
        "INSERT INTO bug_budget_policies (tenant_id, budget_points, valid_from) SELECT id, 0, now() FROM tenants",
        "ck_bug_budget_policies_budget_points",
    ),
    "more flips than runs": (
        (
            "INSERT INTO flake_scores (tenant_id, test_case_id, window_days, runs, flips, algorithm, computed_at) "
            "SELECT id, 1, 28, 3, 4, 'wilson', now() FROM tenants"
        ),
        "ck_flake_scores_flips_of_runs",
    ),
    "a message that was sent at no time": (
        "INSERT INTO notification_deliveries (channel_id, dedupe_key, status) VALUES (1, 'd', 'sent')",
        "ck_notification_deliveries_sent_has_a_time",
    ),
    "a saga that is done at no time": (
        "INSERT INTO workflow_sagas (saga_type, status) VALUES ('onboarding', 'completed')",
        "ck_workflow_sagas_completed_has_a_time",
    ),
    "rows that are kept for no time": (
        "INSERT INTO retention_policies (table_name, keep_for, action) VALUES ('change_log', '0 days', 'delete')",
        "ck_retention_policies_keep_for",
    ),
    "a content that is nowhere": (
        f"INSERT INTO content_storage (content_hash, content_type, content_size) VALUES ('{HASH}', 'text/html', 1)",
        "ck_content_storage_is_somewhere",
    ),
    "a page above itself": ("UPDATE documents SET parent_id = id", "ck_documents_is_not_its_own_parent"),
    "a run by nobody we know": (
        "INSERT INTO test_runs (project_id, title, created_by) VALUES (1, 'nightly', 99)",
        "fk_test_runs_created_by",
    ),
}


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.transaction() as session:
        for statement in GIVEN.split(";\n"):
            if statement.strip():
                session.execute(text(statement))
        yield session
        session.rollback()


def test_the_database_refuses_what_breaks_a_rule(session: Session) -> None:
    refused_by = {}
    for what, (statement, _) in REFUSED.items():
        with pytest.raises(IntegrityError) as caught, session.begin_nested():
            session.execute(text(statement))
        assert isinstance(caught.value.orig, CheckViolation | UniqueViolation | ForeignKeyViolation)
        refused_by[what] = caught.value.orig.diag.constraint_name
    assert refused_by == {what: constraint for what, (_, constraint) in REFUSED.items()}


def test_a_deleted_user_leaves_what_was_done_but_not_who_did_it(session: Session) -> None:
    session.execute(text("INSERT INTO roles (id, name) VALUES (1, 'lead')"))
    session.execute(text("INSERT INTO user_roles (user_id, role_id) VALUES (1, 1), (2, 1)"))
    session.execute(text("DELETE FROM users"))
    assert session.execute(text("SELECT title, created_by FROM projects")).all() == [("Shop", None)]
    assert session.execute(text("SELECT content, user_id FROM document_comments")).all() == [("Good", None)]
    assert session.execute(text("SELECT count(*) FROM user_roles")).scalar_one() == 0


def test_a_removed_connection_takes_its_webhooks_with_it(session: Session) -> None:
    session.execute(text("DELETE FROM connections"))
    assert session.execute(text("SELECT count(*) FROM webhook_deliveries")).scalar_one() == 0
    assert session.execute(text("SELECT count(*) FROM webhook_delivery_keys")).scalar_one() == 0


def test_steps_change_places_in_one_statement(session: Session) -> None:
    session.execute(text("UPDATE test_steps SET position = 1 - position"))
    steps = session.execute(text("SELECT action FROM test_steps ORDER BY position")).scalars().all()
    assert steps == ["pay", "open"]


def test_a_revoked_secret_frees_its_name(session: Session) -> None:
    session.execute(text("UPDATE hmac_secrets SET revoked_at = now()"))
    session.execute(text("INSERT INTO hmac_secrets (tenant_id, name, secret) SELECT id, 'ci', 'y' FROM tenants"))
    assert session.execute(text("SELECT count(*) FROM hmac_secrets")).scalar_one() == 2


def test_who_is_mentioned_is_found_through_the_index(session: Session) -> None:
    session.execute(text("SET LOCAL enable_seqscan = off"))
    query = "SELECT content FROM document_comments WHERE mentioned_user_ids @> '[2]'"
    plan = "\n".join(session.execute(text(f"EXPLAIN {query}")).scalars())
    assert "ix_document_comments_mentioned_user_ids" in plan
    assert session.execute(text(query)).scalars().all() == ["Good"]
