"""Every error that this system raises on purpose, and the verdict that each carries.

The docstring of a class is its default message. What belongs here: error classes and the `Verdict` that tells a
worker what to do about them. What does not: anything that decides from HTTP (connectors/http.py) or that retries
(workers/retry.py).
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, ClassVar


class Verdict(enum.StrEnum):
    """What a worker does with a job whose task raised."""

    RETRY = "retry"
    """Try again with exponential backoff and full jitter."""
    RESCHEDULE = "reschedule"
    """Release the worker and run again at the time that the server named."""
    PAUSE_CONNECTION = "pause_connection"
    """Stop using the connection and tell the operators; a person has to act."""
    MARK_SCOPE = "mark_scope"
    """The scope is gone or hidden; mark it and go on with the others."""
    CANCEL = "cancel"
    """End the job quietly: what it needs is switched off, and whoever switches it on again asks again."""
    SET_ASIDE = "set_aside"
    """Put the record into sync_rejects and go on."""
    FAIL = "fail"
    """A bug or a wrong call: fail at once, loudly."""


class PlumblineError(Exception):
    """Something went wrong in Plumbline."""

    verdict: ClassVar[Verdict] = Verdict.FAIL

    def __init__(self, message: str | None = None, **facts: Any) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.facts = facts
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        # Celery and multiprocessing pickle errors; keyword facts would be lost by the default protocol.
        return (_rebuild, (type(self), self.message, self.facts))


def _rebuild(cls: type[PlumblineError], message: str, facts: dict[str, Any]) -> PlumblineError:
    return cls(message, **facts)


class UsageError(PlumblineError):
    """The call was wrong: an unknown name, option or value."""


class ConnectionInactiveError(UsageError):
    """The connection is paused or denied; `plumbline connection resume` starts it again."""

    verdict = Verdict.CANCEL


class SettingsError(PlumblineError):
    """The settings are wrong or incomplete."""


class NotFoundError(PlumblineError):
    """There is nothing under that name or id."""


class ServerUnavailableError(PlumblineError):
    """The database or the broker does not answer."""

    verdict = Verdict.RETRY


class TableBusyError(PlumblineError):
    """A table is locked by somebody's long transaction; the change of its partitions waits."""

    verdict = Verdict.RETRY


class SourceError(PlumblineError):
    """The source answered in a way that stops this step."""


class TransientSourceError(SourceError):
    """The source did not answer properly this time; a later try may succeed."""

    verdict = Verdict.RETRY


class RateLimitedError(SourceError):
    """The source asks us to wait."""

    verdict = Verdict.RESCHEDULE

    @property
    def retry_at(self) -> datetime | None:
        """The time (aware, UTC) that the source named, or None where it named none."""
        value = self.facts.get("retry_at")
        return value if isinstance(value, datetime) else None


class AccessDeniedError(SourceError):
    """The source refuses our credentials; check the token and its scopes, then `plumbline connection resume`."""

    verdict = Verdict.PAUSE_CONNECTION


class UntrustedHostError(AccessDeniedError):
    """The host does not prove that it is who it should be; no token is sent to it until a person has looked."""


class ForbiddenResourceError(SourceError):
    """The source hides this one resource from our token."""

    verdict = Verdict.MARK_SCOPE


class GoneError(SourceError):
    """The source says that this does not exist, or hides it from our token."""

    verdict = Verdict.MARK_SCOPE


class SourceRequestError(SourceError):
    """The source refuses the request itself; its version or our query is wrong."""


class BadRecordError(SourceError):
    """A record of the source could not be understood."""

    verdict = Verdict.SET_ASIDE


class MassDisappearanceError(SourceError):
    """So much vanished from the source at once that we do not believe it."""


class UnsafeArchiveError(SourceError):
    """The archive holds something that is not safe to unpack."""


class NotAllureResultsError(SourceError):
    """There are no Allure results at that path."""


class NotCsvError(UsageError):
    """The file cannot be read as comma-separated values."""
