"""Documents, what people say and do about them, their templates and images, and reviews of requirements."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Enum, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import EMPTY_LIST, EMPTY_OBJECT, Base, BigInt, Id, Tenant, Times, reference

ENGAGEMENT_TYPES = ("like", "star", "view")
PRD_STATUSES = ("draft", "review", "approved", "rejected")


class ContentStorage(Times, Base):
    """A content that documents and reports share, stored once."""

    __tablename__ = "content_storage"
    __table_args__ = (
        CheckConstraint("content_hash ~ '^[0-9a-f]{64}$'", name="content_hash_is_sha256"),
        CheckConstraint("content_size >= 0", name="content_size"),
        CheckConstraint("reference_count >= 0", name="reference_count"),
        CheckConstraint("num_nonnulls(storage_path, content_data) >= 1", name="is_somewhere"),
        Index("ix_content_storage_unused", "updated_at", postgresql_where=text("reference_count = 0")),
        {"comment": "Contents by their hash, each stored once however many name it."},
    )

    id: Mapped[Id]
    content_hash: Mapped[str] = mapped_column(unique=True, comment="SHA-256 in hexadecimal")
    content_type: Mapped[str] = mapped_column(comment="MIME type")
    content_size: Mapped[BigInt] = mapped_column(comment="Bytes")
    storage_path: Mapped[str | None] = mapped_column(comment="Where it lies outside the database")
    content_data: Mapped[bytes | None] = mapped_column(LargeBinary)
    reference_count: Mapped[int] = mapped_column(server_default="0", comment="How many rows name it; 0 may be purged")


class Document(Times, Base):
    """A page of a project's documentation."""

    __tablename__ = "documents"
    __table_args__ = (
        CheckConstraint("version >= 1", name="version"),
        CheckConstraint("views_count >= 0 AND likes_count >= 0 AND stars_count >= 0", name="counts"),
        CheckConstraint("parent_id <> id", name="is_not_its_own_parent"),
        {"comment": "Pages of projects' documentation, as a tree."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    project_id: Mapped[int] = reference("projects.id")
    parent_id: Mapped[int | None] = reference("documents.id")
    title: Mapped[str]
    content: Mapped[str | None]
    content_id: Mapped[int | None] = reference("content_storage.id", comment="Instead of `content`, where it is large")
    version: Mapped[int] = mapped_column(server_default="1")
    last_edited_by: Mapped[int | None] = reference("users.id", ondelete="SET NULL")
    deleted_by: Mapped[int | None] = reference("users.id", ondelete="SET NULL")
    views_count: Mapped[int] = mapped_column(server_default="0")
    likes_count: Mapped[int] = mapped_column(server_default="0")
    stars_count: Mapped[int] = mapped_column(server_default="0")
    deleted_at: Mapped[datetime | None]


class DocumentVersion(Times, Base):
    """A document as it once was."""

    __tablename__ = "document_versions"
    __table_args__ = (
        UniqueConstraint("document_id", "version_number"),
        CheckConstraint("version_number >= 1", name="version_number"),
        {"comment": "Documents as they once were."},
    )

    id: Mapped[Id]
    document_id: Mapped[int] = reference("documents.id", index=False, ondelete="CASCADE")
    title: Mapped[str]
    content: Mapped[str | None]
    version_number: Mapped[int]
    change_summary: Mapped[str | None]


class DocumentComment(Times, Base):
    """What somebody says about a document."""

    __tablename__ = "document_comments"
    __table_args__ = (
        Index("ix_document_comments_mentioned_user_ids", "mentioned_user_ids", postgresql_using="gin"),
        {"comment": "What people say about documents, as threads."},
    )

    id: Mapped[Id]
    document_id: Mapped[int] = reference("documents.id", ondelete="CASCADE")
    user_id: Mapped[int | None] = reference("users.id", ondelete="SET NULL")
    parent_id: Mapped[int | None] = reference("document_comments.id", comment="What it answers")
    content: Mapped[str]
    comment_type: Mapped[str | None]
    is_resolved: Mapped[bool] = mapped_column(server_default=text("false"))
    mentioned_user_ids: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST)
    deleted_at: Mapped[datetime | None]


class DocumentEngagement(Times, Base):
    """That somebody likes, starred or has seen a document."""

    __tablename__ = "document_engagements"
    __table_args__ = (
        UniqueConstraint("document_id", "user_id", "engagement_type"),
        {"comment": "Who likes, starred or has seen which document."},
    )

    id: Mapped[Id]
    document_id: Mapped[int] = reference("documents.id", index=False, ondelete="CASCADE")
    user_id: Mapped[int] = reference("users.id", ondelete="CASCADE")
    engagement_type: Mapped[str] = mapped_column(Enum(*ENGAGEMENT_TYPES, name="engagement_type"))
    viewed_at: Mapped[datetime | None]


class DocumentTemplate(Times, Base):
    """What a new document may begin with."""

    __tablename__ = "document_templates"
    __table_args__ = ({"comment": "What new documents may begin with."},)

    id: Mapped[Id]
    name: Mapped[str]
    type: Mapped[str]
    content: Mapped[str]
    variables: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT, comment="Name to description")
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))


class EditorImage(Times, Base):
    """An image in a text that somebody wrote."""

    __tablename__ = "editor_images"
    __table_args__ = (
        CheckConstraint("size >= 0", name="size"),
        {"comment": "Images in texts that people wrote."},
    )

    id: Mapped[Id]
    filename: Mapped[str] = mapped_column(comment="As stored")
    original_name: Mapped[str] = mapped_column(comment="As uploaded")
    path: Mapped[str]
    mime_type: Mapped[str]
    size: Mapped[BigInt] = mapped_column(comment="Bytes")
    uploaded_by: Mapped[int | None] = reference("users.id", ondelete="SET NULL")


class PrdReview(Times, Base):
    """A review of a product requirements document."""

    __tablename__ = "prd_reviews"
    __table_args__ = (
        UniqueConstraint("tenant_id", "request_id"),
        Index("ix_prd_reviews_open", "tenant_id", postgresql_where=text("status IN ('draft', 'review')")),
        {"comment": "Reviews of product requirements documents, most of them pages of Confluence."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    request_id: Mapped[str]
    title: Mapped[str]
    content: Mapped[str | None]
    requester_name: Mapped[str | None]
    confluence_url: Mapped[str | None]
    page_id: Mapped[str | None] = mapped_column(comment="Of Confluence")
    status: Mapped[str] = mapped_column(Enum(*PRD_STATUSES, name="prd_status"), server_default="draft")
    project_id: Mapped[int | None] = reference("projects.id")
    reviewed_by: Mapped[int | None] = reference("users.id", ondelete="SET NULL")
    reviewed_at: Mapped[datetime | None]
    synced_at: Mapped[datetime | None]
    comments: Mapped[str | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=EMPTY_OBJECT)


class PrdReviewCache(Times, Base):
    """Something slow to find out about a review, kept until it expires."""

    __tablename__ = "prd_review_cache"
    __table_args__ = ({"comment": "What is slow to find out about a review, kept until it expires."},)

    id: Mapped[Id]
    prd_review_id: Mapped[int] = reference("prd_reviews.id", ondelete="CASCADE")
    cache_key: Mapped[str] = mapped_column(unique=True)
    cache_type: Mapped[str]
    data: Mapped[dict[str, Any]]
    expires_at: Mapped[datetime] = mapped_column(index=True)
