"""Settings: the only place that reads the environment.

What belongs here: every `PLUMBLINE_` variable with its check and its default, HOME itself, and the keys that are
generated into it. What does not: what the settings are used for, and anything that a person changes while the system
runs (connections and schedules are rows).
"""

from __future__ import annotations

import difflib
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cryptography.fernet import Fernet
from pydantic import BeforeValidator, Field, PositiveInt, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from models.errors import SettingsError

PREFIX = "PLUMBLINE_"

DATABASE_SCHEMES = ("postgresql", "postgres")
BROKER_SCHEMES = ("redis", "rediss", "amqp", "amqps")

_PORT = Field(ge=1, le=65535, description="a port from 1 to 65535")


def _core_count() -> int:
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class Settings(BaseSettings):
    """Everything that the environment decides, checked. Made by `load_settings`; never changes.

    Secrets are `SecretStr`: they print as asterisks and are read with `get_secret_value()`.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_by_name=True,
        validate_by_alias=True,
    )

    database_url: SecretStr | None = Field(
        default=None,
        description="postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or leave it unset for the embedded PostgreSQL",
    )
    broker_url: SecretStr | None = Field(
        default=None,
        description="redis://, rediss://, amqp:// or amqps:// with a host, or leave it unset for the embedded broker",
    )
    home: Path = Field(default=Path(".plumbline"), validate_default=True, description="a folder that only you can read")
    given_secret_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(),
        validation_alias=PREFIX + "SECRET_KEYS",
        description="Fernet keys separated by commas, the first encrypts; `python -c 'from cryptography.fernet import "
        "Fernet; print(Fernet.generate_key().decode())'` makes one",
    )
    api_host: str = Field(default="127.0.0.1", pattern=r"^\S+$", description="an address or host name to listen on")
    api_port: Annotated[int, _PORT] = 8600
    flower_port: Annotated[int, _PORT] = 5555
    given_flower_basic_auth: SecretStr | None = Field(
        default=None, validation_alias=PREFIX + "FLOWER_BASIC_AUTH", description="USER:PASSWORD, without commas"
    )
    log_format: Annotated[Literal["console", "json"] | None, BeforeValidator(_lower)] = Field(
        default=None, description="console or json; unset means console on a terminal, else json"
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)] = Field(
        default="info", description="debug, info, warning, error or critical"
    )
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
        description="https:// and where GitLab and Jira reach the API, for webhooks; unset without them",
    )
    webhook_limit_bytes: PositiveInt = Field(
        default=25 * 1024 * 1024,  # GitLab sends no larger ones
        description="how large a webhook may be, in bytes",
    )
    reporting_timezone: str = Field(default="UTC", description="a name such as UTC or Europe/Berlin")
    worker_concurrency: PositiveInt = Field(
        default_factory=_core_count, description="how many tasks run at once in one worker, 1 or more"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the call only: `load_settings` says which environment they come from."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("database_url")
    @classmethod
    def _is_database_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_url(value.get_secret_value(), DATABASE_SCHEMES, needs_host=False)
        return value

    @field_validator("broker_url")
    @classmethod
    def _is_broker_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_url(value.get_secret_value(), BROKER_SCHEMES, needs_host=True)
        return value

    @field_validator("given_secret_keys")
    @classmethod
    def _are_fernet_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for position, key in enumerate(value, start=1):
            try:
                Fernet(key.get_secret_value())
            except ValueError:
                # The library's message is about padding; from None, because the key must not be in a traceback.
                raise ValueError(f"key {position} is not a Fernet key") from None
        return value

    @field_validator("given_flower_basic_auth")
    @classmethod
    def _is_user_and_password(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            user, _, password = value.get_secret_value().partition(":")
            if not user or not password or "," in password + user:
                raise ValueError("it is not USER:PASSWORD")
        return value

    @field_validator("reporting_timezone")
    @classmethod
    def _is_timezone(cls, value: str) -> str:
        if value == "UTC":  # known even where the machine has no time zone data
            return value
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"this machine knows no time zone {value!r}") from None
        return value

    @property
    def sqlalchemy_url(self) -> str | None:
        """DATABASE_URL for SQLAlchemy with psycopg, or None where the embedded PostgreSQL is used."""
        return None if self.database_url is None else sqlalchemy_url(self.database_url.get_secret_value())

    @cached_property
    def secret_keys(self) -> tuple[SecretStr, ...]:
        """The keys of secrets at rest, the first encrypts. Generated into HOME at their first use where none are given.

        Raises:
            SettingsError: HOME cannot be written, or its key file holds something else.
        """
        return self.given_secret_keys or _stored_secret_keys(self.home)

    @cached_property
    def flower_basic_auth(self) -> SecretStr:
        """`user:password` of Flower; generated for this process where none is given."""
        return self.given_flower_basic_auth or SecretStr(f"plumbline:{secrets.token_urlsafe(18)}")

    def as_environment(self) -> dict[str, str]:
        """The variables that give another process these very settings."""
        variables = {PREFIX + "HOME": str(self.home)}
        for field in self.model_fields_set:
            value = getattr(self, field)
            if value is not None:
                variables[_variable(field)] = _as_text(value)
        return variables


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        environ: the variables; the process's own environment where None.

    Raises:
        SettingsError: with one line for each thing that is wrong.
    """
    given = {
        name: value
        for name, value in (os.environ if environ is None else environ).items()
        if name.startswith(PREFIX) and value.strip()
    }
    known = {_variable(field): field for field in Settings.model_fields}
    mistakes = [_unknown(name, known) for name in sorted(given.keys() - known.keys())]
    if PREFIX + "DATABASE_URL" in given and PREFIX + "SECRET_KEYS" not in given:
        mistakes.append(
            f"{PREFIX}SECRET_KEYS: not set, and keys made in a folder of this machine would be lost to the others "
            f"that use the database. Give {Settings.model_fields['given_secret_keys'].description}."
        )
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): value for name, value in given.items()}
    settings = None
    try:
        settings = Settings(**source())
    except ValidationError as error:
        mistakes += [_mistake(detail, known) for detail in error.errors(include_url=False, include_input=False)]
    # Raised out here, so that no traceback carries the values that were refused.
    if mistakes or settings is None:
        raise SettingsError("The settings are wrong:\n" + "\n".join(f"  {line}" for line in mistakes))
    return settings


def sqlalchemy_url(database_url: str) -> str:
    """Turn `postgresql://…` into the form that makes SQLAlchemy use psycopg 3."""
    return "postgresql+psycopg://" + database_url.partition("://")[2]


def inherited_environment() -> dict[str, str]:
    """This process's environment without our own variables, for processes that we start."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def prepare_home(home: Path) -> None:
    """Make HOME, open to its owner only.

    Raises:
        SettingsError: it cannot be made, belongs to somebody else, or is a folder in use that others can open; such
            a folder is left as it is, because it may well be a wrong path.
    """
    remedy = f"Name another folder in {PREFIX}HOME"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_used = any(home.iterdir())
        if not is_used and os.geteuid() == 0:
            os.chown(home, 0, 0)
        facts = home.stat()
        if facts.st_uid != os.geteuid():
            raise SettingsError(
                f"{PREFIX}HOME: {home} belongs to user {facts.st_uid}. Run as that user. {remedy} otherwise."
            )
        if stat.S_IMODE(facts.st_mode) & 0o077:
            if is_used:
                raise SettingsError(
                    f"{PREFIX}HOME: others can open {home}, which is in use. {remedy}, or `chmod 700 {home}`."
                )
            home.chmod(0o700)
    except OSError as error:
        raise SettingsError(f"{PREFIX}HOME: {home} cannot be used: {error.strerror}. {remedy}.") from error


def _check_url(url: str, schemes: tuple[str, ...], *, needs_host: bool) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port  # a property that refuses what is no port
    except ValueError:
        # From None: urllib's message quotes the URL, and with it the password.
        raise ValueError("it is not a URL that can be read; special characters must be percent-encoded") from None
    if parts.scheme not in schemes or f"{parts.scheme}://" not in url:
        raise ValueError(f"it does not begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if (needs_host or port) and not parts.hostname:
        raise ValueError("it names no host")


def _variable(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else PREFIX + field.upper()


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_as_text(part) for part in value)
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _unknown(name: str, known: Mapping[str, str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
    return f"{name}: there is no such setting. Did you mean {nearest}? Names that begin with {PREFIX} are taken."


def _mistake(detail: ErrorDetails, known: Mapping[str, str]) -> str:
    place = str(detail["loc"][0])
    name = place if place in known else _variable(place)
    what = detail["msg"].removeprefix("Value error, ")
    return f"{name}: {what[0].lower()}{what[1:]}. Give {Settings.model_fields[known[name]].description}."


def _stored_secret_keys(home: Path) -> tuple[SecretStr, ...]:
    path = home / "secret-keys"
    if not path.exists():
        prepare_home(home)
        descriptor, draft = tempfile.mkstemp(dir=home, prefix="secret-keys.")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(Fernet.generate_key() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was first: its key is the key
        finally:
            Path(draft).unlink()
    try:
        keys = _split(path.read_text().replace("\n", ","))
        for key in keys:
            Fernet(key)
    except (OSError, ValueError):
        keys = ()
    if not keys:
        raise SettingsError(f"{path} holds no Fernet keys. Put it back from your backup, or set {PREFIX}SECRET_KEYS.")
    return tuple(SecretStr(key) for key in keys)
