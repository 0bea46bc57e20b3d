"""What people write down: documents with their versions, comments and readers, and what was decided."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from admin.seed import words
from admin.seed.company import DOCUMENTS_OF_A_PROJECT, Company, Ids, Part, Project
from admin.seed.workdays import at, day_of

DECISIONS_OF_A_PROJECT = 6
MOST_VERSIONS = 8
MOST_COMMENTS = 5
MOST_READERS = 12


def writings(company: Company, ids: Ids) -> Iterator[list[Part]]:
    """Documents and decisions of all projects, those of a project in each transaction."""
    for project in company.projects:
        random = company.plan.random(f"writings/{project.key}")
        yield [*_documents(company, ids, random, project), _decisions(company, ids, random, project)]


def _documents(company: Company, ids: Ids, random: Random, project: Project) -> Iterator[Part]:
    documents: list[tuple[Any, ...]] = []
    versions: list[tuple[Any, ...]] = []
    comments: list[tuple[Any, ...]] = []
    engagements: list[tuple[Any, ...]] = []
    for number in range(DOCUMENTS_OF_A_PROJECT):
        document_id = ids("documents", project.number * DOCUMENTS_OF_A_PROJECT + number)
        root_id = ids("documents", project.number * DOCUMENTS_OF_A_PROJECT)
        title = f"{words.DOCUMENTS[number]}: {project.title}"
        moments = company.workdays.moments(random, random.randint(1, MOST_VERSIONS), project.zone)
        for version, moment in enumerate(moments, 1):
            text = f"# {title}\n\nAs of {day_of(moment)}, version {version}."
            versions.append((document_id, title, text, version, f"Change {version}", at(moment)))
        for moment in company.workdays.moments(random, random.randrange(MOST_COMMENTS), project.zone):
            author = ids("users", random.choice(company.people).number)
            when = at(max(moment, moments[0]))
            comments.append((document_id, author, f"Is this still true of the {random.choice(words.THINGS)}?", when))
        readers = random.sample(company.people, min(len(company.people), random.randint(1, MOST_READERS)))
        likes = sum(1 for each in readers if each.number % 3 == 0)
        for reader in readers:
            kinds = ("view", "like") if reader.number % 3 == 0 else ("view",)
            engagements += [(document_id, ids("users", reader.number), kind, at(moments[-1])) for kind in kinds]
        editor = ids("users", random.choice(company.people).number)
        documents.append(
            (document_id, ids("tenants"), ids("projects", project.number), root_id if number else None, title,
             versions[-1][2], len(moments), editor, len(readers), likes, at(moments[0]), at(moments[-1]))
        )  # fmt: skip
    yield Part(
        "documents",
        ("id", "tenant_id", "project_id", "parent_id", "title", "content", "version", "last_edited_by", "views_count",
         "likes_count", "created_at", "updated_at"),
        documents,
    )  # fmt: skip
    yield Part(
        "document_versions",
        ("document_id", "title", "content", "version_number", "change_summary", "created_at"),
        versions,
    )
    yield Part("document_comments", ("document_id", "user_id", "content", "created_at"), comments)
    yield Part("document_engagements", ("document_id", "user_id", "engagement_type", "viewed_at"), engagements)


def _decisions(company: Company, ids: Ids, random: Random, project: Project) -> Part:
    rows: list[tuple[Any, ...]] = []
    for moment in company.workdays.moments(random, DECISIONS_OF_A_PROJECT, project.zone):
        owner = random.choice(company.people)
        title = random.choice(words.DECISIONS)
        rows.append(
            (ids("tenants"), f"{project.title}: {title.lower()}", random.choice(("process", "technical", "release")),
             owner.name, ids("users", owner.number), day_of(moment), f"It came up in {project.title}.", title,
             random.choice(("low", "medium", "high")), random.sample(words.AREAS, 2), at(moment))
        )  # fmt: skip
    columns = (
        "tenant_id", "title", "decision_type", "decision_owner", "decision_owner_id", "decision_date", "context",
        "decision", "impact_risk", "tags", "created_at",
    )  # fmt: skip
    return Part("decision_logs", columns, rows)
