"""Logs: one format for our records and everybody else's, with no secret in any of them.

What belongs here: how a record becomes a line, and what is masked in it. What does not: what is logged, and where the
lines go afterwards (they go to stderr; `plumbline up` and the operating system take it from there).

Write `structlog.get_logger(__name__).info("event_name", key=value)`: a static event name, ids and counts as keys. Bind
what a whole job shares once, with `structlog.contextvars.bound_contextvars(job_id=…, task=…)`.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from pydantic import SecretStr
from structlog.typing import EventDict, Processor, WrappedLogger

from workers.settings import Settings

MASK = "***"

SECRET_KEY = re.compile(
    r"token|passw|passphrase|secret|authorization|cookie|credential|api[_-]?key|private[_-]?key|signature",
    re.IGNORECASE,
)
"""A value under such a key is masked, unless the key says that it is not the secret itself."""
HARMLESS_KEY = re.compile(r"(_id|_count|_name|_at|_on|_seconds|_bytes|_path)$", re.IGNORECASE)

# Every repetition in these patterns is bounded or linear: a log line may be long, and may be written to hurt.
_WORD = r"(?:token|passw|passphrase|secret|credential|api[_-]?key|private[_-]?key|signature)[\w-]{0,40}"
_QUOTED = r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'"
_IN_TEXT: tuple[tuple[re.Pattern[str], str], ...] = (
    # https://user:password@host, redis://:password@host, https://token@host
    (re.compile(r"(?<=://)\S{1,1000}@"), f"{MASK}@"),
    (re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----)[^-]+"), rf"\1{MASK}"),
    # Whole headers up to the end of the line, in whichever notation.
    (re.compile(r"(\bcookie|\bset-cookie|\bauthorization)(['\"]?\s*[:=]\s*)[^\n]+", re.IGNORECASE), rf"\1\2{MASK}"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
    # key=value, key: value, "key": "value"
    (re.compile(rf"({_WORD}['\"]?\s*[:=]\s*)(?:{_QUOTED}|[^\s&]+)", re.IGNORECASE), rf"\1{MASK}"),
    # Tokens that their vendors made recognisable: GitLab, GitHub, Slack, Atlassian.
    (re.compile(r"\b(?:gl[a-z]{2,5}-|gh[a-z]_|github_pat_|xox[a-z]-|ATATT)[\w-]{8,}"), MASK),
)


def mask_text(text: str) -> str:
    """Mask what looks like a secret in free text: credentials in URLs, headers, `key=value`, well-known tokens."""
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask secrets anywhere in a record; the last processor before the renderer."""
    return dict(_mask_mapping(event))


def drop_colours(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop uvicorn's second copy of its message, which is for terminals."""
    event.pop("color_message", None)
    return event


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send every record of this process, whoever makes it, through one formatter to stderr.

    Args:
        settings: `log_format` (unset: console on a terminal, else JSON lines) and `log_level`.
        stream: where to write instead of stderr.
    """
    stream = stream or sys.stderr
    is_terminal = stream.isatty()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: Processor
    if (settings.log_format or ("console" if is_terminal else "json")) == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=is_terminal, pad_event_to=0)
    else:
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False, default=repr)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Tracebacks become text before masking, because messages of exceptions are in them.
                structlog.processors.format_exc_info,
                drop_colours,
                mask_secrets,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    for name in logging.root.manager.loggerDict:
        _send_to_root(logging.getLogger(name))
    _send_to_root(root)
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _send_to_root(logger: logging.Logger) -> None:
    """Take away the handlers that write to a stream by themselves, such as uvicorn's and Celery's."""
    for handler in list(logger.handlers):
        if type(handler) is logging.StreamHandler:  # subclasses do something else with records, such as collect them
            logger.removeHandler(handler)
            logger.propagate = True


def _mask_mapping(mapping: Mapping[Any, Any]) -> MutableMapping[str, Any]:
    return {mask_text(str(key)): _mask(value, key=str(key)) for key, value in mapping.items()}


def _mask(value: Any, key: str = "") -> Any:
    if value is None or isinstance(value, bool):
        return value
    if SECRET_KEY.search(key) and not HARMLESS_KEY.search(key):
        return MASK
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, Mapping):
        return _mask_mapping(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_mask(part) for part in value]
    return mask_text(value if isinstance(value, str) else repr(value) if isinstance(value, bytes) else str(value))
