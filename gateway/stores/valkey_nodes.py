"""Connections to one server of a remote ledger.

Everything has a timeout, connections are bounded, and nothing is repeated by redis-py (its own
default is ten times, for every command). A connection is used only to a server that says that it
is a master.
"""

import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import exceptions as errors
from redis.asyncio.connection import (
    AbstractConnection,
    BlockingConnectionPool,
    Connection,
    SSLConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from gateway.stores.valkey_lane import Lane, NotDone
from middleware.tasks import Tasks

CONNECTIONS_MAX = 8
"""To one server: each carries a pipeline, and what finds all of them busy goes out together."""

CONNECT_TIMEOUT_S = 1.0
"""Servers are near: one SYN may be lost."""

REPLY_TIMEOUT_S = 3.0
"""A thousand times what a call takes: beyond it the server hangs."""

POOL_TIMEOUT_S = 2.0
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Access:
    """How to get in. Files are read anew for each connection: secrets are changed while we run."""

    username: str | None = None
    password_file: Path | None = None
    sentinel_password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None


class _FileCredentials(CredentialProvider):
    def __init__(self, username: str | None, file: Path) -> None:
        self._username = username
        self._file = file

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            password = self._file.read_text().rstrip("\r\n")
        except OSError as error:
            raise errors.AuthenticationError(f"can't read {self._file}: {error}") from error
        return (password,) if self._username is None else (self._username, password)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()  # some bytes, from the page cache


def connection_options(access: Access, *, db: int, sentinel: bool = False) -> dict[str, Any]:
    """For every connection that is ever made."""
    options: dict[str, Any] = {
        "db": db,
        "protocol": 2,
        "socket_timeout": REPLY_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "health_check_interval": 0,
        "driver_info": None,
        "client_name": "ordergate",
    }
    file = access.sentinel_password_file if sentinel else access.password_file
    if file is not None:
        username = None if sentinel else access.username
        options["credential_provider"] = _FileCredentials(username, file)
    elif access.username is not None and not sentinel:
        options["username"] = access.username
    if access.tls:
        options["connection_class"] = SSLConnection
        options["ssl_cert_reqs"] = "required"
        options["ssl_check_hostname"] = True
        options["ssl_min_version"] = ssl.TLSVersion.TLSv1_2
        if access.ca_file is not None:
            options["ssl_ca_certs"] = str(access.ca_file)
    else:
        options["connection_class"] = Connection
    return options


Ask = Callable[..., Awaitable[Any]]
"""One more question on the same connection; an error that is an answer is returned."""

Greeting = Callable[["Node", Mapping[str, str], Ask], Awaitable[None]]
"""Told of each new connection, with what the server says of itself (INFO replication), before the
connection is used. Raises to refuse it."""


def info(raw: bytes | str) -> dict[str, str]:
    text = raw.decode() if isinstance(raw, bytes) else raw
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, separator, value in lines if separator}


class Node:
    """One server, as a master of some buckets."""

    def __init__(
        self,
        address: Address,
        options: Mapping[str, Any],
        scripts: Sequence[str],
        tasks: Tasks,
        greet: Greeting,
    ) -> None:
        self.address = address
        self.name = f"{address[0]}:{address[1]}"
        self._greet = greet
        self.pool = BlockingConnectionPool(
            max_connections=CONNECTIONS_MAX,
            timeout=POOL_TIMEOUT_S,
            host=address[0],
            port=address[1],
            redis_connect_func=self._connected,
            **options,
        )
        self.lane = Lane(self.pool, scripts, tasks, self.name)

    async def _connected(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        await connection.send_command("INFO", "replication")
        told = info(await connection.read_response())
        if told.get("role") != "master":
            raise errors.ConnectionError(f"{self.name} is no master but a {told.get('role')}")

        async def ask(*command: str | bytes) -> Any:
            await connection.send_command(*command)
            return await _answer(connection)

        await self._greet(self, told, ask)

    async def ask(self, *commands: Sequence[str]) -> list[Any]:
        """A few questions; an error that is an answer takes its place. Raises NotDone."""
        try:
            connection: AbstractConnection = await self.pool.get_connection()  # type: ignore[no-untyped-call]
        except (errors.RedisError, OSError, TimeoutError) as error:
            raise NotDone(f"no connection to {self.name}: {error}", elsewhere=True) from error
        try:
            await connection.send_packed_command(connection.pack_commands(commands))
            return [await _answer(connection) for _ in commands]
        except (errors.RedisError, OSError, TimeoutError) as error:
            with suppress(errors.RedisError, OSError, TimeoutError):
                await connection.disconnect()
            raise NotDone(f"{self.name} does not answer: {error}", elsewhere=True) from error
        except BaseException:
            await connection.disconnect()
            raise
        finally:
            await self.pool.release(connection)

    async def close(self) -> None:
        with suppress(errors.RedisError, OSError, TimeoutError):
            await self.pool.disconnect()


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except errors.ResponseError as error:
        return error
