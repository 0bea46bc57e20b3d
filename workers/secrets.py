"""Secrets at rest: rows hold Fernet tokens, the keys come from the settings, and the first key encrypts."""

from __future__ import annotations

import json
from collections.abc import Mapping

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from models.errors import SettingsError
from workers.settings import Settings


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
