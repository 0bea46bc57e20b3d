"""JSON as received into typed shapes, whatever is in it.

What belongs here: decoding that every vendor's payloads need alike. What does not: what a field means (`parse.py` of a
vendor).
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, TypeVar

import msgspec

from models.errors import BadRecordError

T = TypeVar("T")

Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time that must say its offset."""


def decoded(payload: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode JSON into a typed shape, without what PostgreSQL cannot store.

    Args:
        payload: may hold NULs, halves of surrogate pairs and bytes that are no UTF-8; they are taken out or replaced.
        decoder: of the shape.

    Raises:
        BadRecordError: it is no JSON or has another shape; the message begins with the field.
    """
    try:
        if b"\\u0000" not in payload:
            try:
                return decoder.decode(payload)
            except msgspec.ValidationError:
                raise
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass  # may be readable once it is cleaned; if not, the second attempt says why
        return decoder.decode(cleaned(payload))
    except RecursionError as error:
        raise BadRecordError("payload: nested too deeply", field=None) from error
    except msgspec.DecodeError as error:
        reason, _, path = str(error).partition(" - at `$")
        path = path.rstrip("`").lstrip(".")
        missing = re.fullmatch(r"Object missing required field `(\w+)`", reason)
        field = ".".join(filter(None, (path, missing[1]))) if missing else path
        why = "missing" if missing else reason
        raise BadRecordError(f"{field or 'payload'}: {why}", field=field or None) from error


_CONTROL_BYTES = bytes(range(0x20))
_ESCAPE = re.compile(
    rb"\\(?:(u0000)"
    rb"|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|.)"
)


def cleaned(payload: bytes) -> bytes:
    """The same JSON without NULs and control bytes, half surrogate pairs and wrong UTF-8 replaced by U+FFFD."""
    text = payload.decode("utf-8", errors="replace").encode()
    return _ESCAPE.sub(_clean_escape, text.translate(None, _CONTROL_BYTES))


def _clean_escape(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return b""
    return rb"\ufffd" if match[2] else match[0]
