"""Whether a webhook comes from who it says: the schemes of signing that several vendors share.

Pure, and constant in time over what is secret. What belongs here: a scheme that has a name of its own. What does not:
which scheme a vendor uses and what its headers are called (connectors/<vendor>/webhooks.py).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta

REPLAY_WINDOW = timedelta(minutes=5)
"""How far a signed time may be from ours: what was recorded cannot be sent again later."""
STANDARD_PREFIX = "whsec_"


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by their names in lower case, because proxies write them as they like."""
    return {name.lower(): value for name, value in headers.items()}


def is_same(given: str, wanted: str) -> bool:
    """Whether two texts are the same, in a time that tells nothing of where they differ."""
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode(errors="replace"))


def is_standard_webhook(headers: Mapping[str, str], body: bytes, secret: str, now: datetime) -> bool:
    """Whether a request carries a signature of that secret that is not too old and not from the future.

    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

    Args:
        headers: names in lower case.
        body: the bytes as they came.
        secret: `whsec_` and the key in base64.
        now: aware.
    """
    key = standard_key(secret)
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not key or not message_id or not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    if abs(now.timestamp() - int(timestamp)) > REPLAY_WINDOW.total_seconds():
        return False
    wanted = standard_signature(key, message_id, timestamp, body)
    # While a secret is replaced there are several, and only those of version 1 are ours to check.
    given = headers.get("webhook-signature", "").split(" ")
    return any(is_same(each, wanted) for each in given if each.startswith("v1,"))


def standard_key(secret: str) -> bytes | None:
    """The key of a `whsec_` secret, or None where it is no such secret."""
    if not secret.startswith(STANDARD_PREFIX):
        return None
    try:
        return base64.b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None


def standard_signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """`v1,` and the signature of a message in base64."""
    signed = f"{message_id}.{timestamp}.".encode(errors="replace") + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def is_hub_signature(given: str, body: bytes, secret: str) -> bool:
    """Whether `sha256=…` is the signature of the body, as WebSub has it.

    Source: https://www.w3.org/TR/websub/#signing-content

    Args:
        given: the header's value.
        body: the bytes as they came.
        secret: any text; an empty one signs nothing.
    """
    return bool(secret) and is_same(given, hub_signature(body, secret))


def hub_signature(body: bytes, secret: str) -> str:
    """`sha256=` and the signature of a body in hexadecimal digits."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
