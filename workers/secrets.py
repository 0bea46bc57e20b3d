"""Secrets at rest: rows hold Fernet tokens, the keys come from the settings, and the first key encrypts."""

from __future__ import annotations

import base64
import json
import secrets as randomness
from collections.abc import Mapping
from datetime import datetime, timedelta

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from models.errors import SettingsError
from workers.settings import Settings

SECRETS_OVERLAP = timedelta(days=1)
"""How long the webhook secret before stays good beside the new one: Jira sends again for hours what failed."""


def _keys(settings: Settings) -> MultiFernet:
    return MultiFernet([Fernet(key.get_secret_value()) for key in settings.secret_keys])


def encrypt(settings: Settings, secrets: Mapping[str, str]) -> str:
    """Encrypt a mapping for a row."""
    return _keys(settings).encrypt(json.dumps(dict(secrets)).encode()).decode()


def decrypt(settings: Settings, token: str) -> dict[str, str]:
    """Read a row's secrets.

    Raises:
        SettingsError: none of the keys fits.
    """
    try:
        plain = _keys(settings).decrypt(token.encode())
    except InvalidToken:
        raise SettingsError(
            "None of PLUMBLINE_SECRET_KEYS decrypts what is stored; restore the key that it was written with, "
            "or add the connection again."
        ) from None
    return {str(name): str(value) for name, value in json.loads(plain).items()}


def webhook_secrets(auth: Mapping[str, str], now: datetime) -> tuple[str, ...]:
    """The webhook secrets of a connection that are good now, the newest first; none where it has no webhooks.

    Args:
        auth: the connection's secrets.
        now: aware.
    """
    found = [auth["webhook_secret"]] if auth.get("webhook_secret") else []
    before, until = auth.get("webhook_secret_before"), auth.get("webhook_secret_before_until")
    if before and until and now < datetime.fromisoformat(until):
        found.append(before)
    return tuple(found)


def with_new_webhook_secret(auth: Mapping[str, str], now: datetime) -> dict[str, str]:
    """The secrets of a connection with another webhook secret; the one before stays good for a day.

    Args:
        auth: the connection's secrets.
        now: aware.
    """
    made = {**auth, "webhook_secret": "whsec_" + base64.b64encode(randomness.token_bytes(32)).decode()}
    if auth.get("webhook_secret"):
        made["webhook_secret_before"] = auth["webhook_secret"]
        made["webhook_secret_before_until"] = (now + SECRETS_OVERLAP).isoformat()
    return made


def without_webhook_secret(auth: Mapping[str, str]) -> dict[str, str]:
    """The secrets of a connection that has no webhooks any more."""
    return {name: value for name, value in auth.items() if not name.startswith("webhook_secret")}
