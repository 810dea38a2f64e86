"""The way to one server: the calls of one turn of the event loop go out as one pipeline.

Where the ledger's durability needs it, a pipeline ends with WAITAOF or WAIT, and what it reports
is compared with what was asked for: nothing that is short of it is believed. Nothing is repeated
here, and redis-py repeats nothing either.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

from redis import exceptions as errors
from redis.asyncio.connection import AbstractConnection, BlockingConnectionPool

from middleware.tasks import Tasks, TasksClosed

BATCH_MAX = 128
"""Commands in one pipeline: 128 cost 19 us each, and what waits behind them waits 3 ms."""

BATCH_BYTES_MAX = 8 * 1024 * 1024
"""And not more than some bodies of 1 MiB: they are in memory twice meanwhile."""

QUEUE_MAX = 10_000
"""Commands that wait for a connection: more than this is a server that does not keep up."""

Args: TypeAlias = Sequence[bytes | str | int | float]


class NotDone(Exception):
    """The server has surely not done it. ``elsewhere``: another server might, or this one later."""

    def __init__(self, detail: str, *, elsewhere: bool, error: Exception | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.elsewhere = elsewhere
        self.error = error


class ReplyLost(Exception):
    """It may have been done."""


class Unacknowledged(Exception):
    """It was done, but it is not as durable as was asked for: a failover or a crash may undo it."""


class Command:
    """One command and its reply. ``acknowledged``: the reply is worth nothing before what it says
    is durable. ``on_send`` is called just before the bytes leave."""

    __slots__ = ("acknowledged", "args", "asking", "on_send", "reply", "size")

    def __init__(
        self,
        args: Args,
        *,
        acknowledged: bool,
        on_send: Callable[[], None] | None = None,
        asking: bool = False,
    ) -> None:
        self.args = args
        self.acknowledged = acknowledged
        self.on_send = on_send
        self.asking = asking
        self.size = sum(len(arg) for arg in args if isinstance(arg, bytes | str))
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Acknowledgement(Protocol):
    """What ends each pipeline."""

    commands: tuple[Args, ...]

    def lacks(self, replies: Sequence[Any]) -> str | None:
        """Why the replies to ``commands`` are not enough; None where they are."""
        ...


class Nothing:
    """The server's answer to each command is all that is waited for."""

    commands: tuple[Args, ...] = ()

    def lacks(self, replies: Sequence[Any]) -> str | None:  # noqa: ARG002 - there are none
        return None


NOTHING = Nothing()


class Copied:
    """So many replicas have it, in time (WAIT)."""

    def __init__(self, replicas: int, timeout_s: float) -> None:
        self._replicas = replicas
        self.commands: tuple[Args, ...] = (("WAIT", replicas, _ms(timeout_s)),)

    def lacks(self, replies: Sequence[Any]) -> str | None:
        (copies,) = replies
        if isinstance(copies, Exception):
            return f"the server can't acknowledge ({copies})"
        if copies < self._replicas:
            return f"{copies} of {self._replicas} replicas acknowledged in time"
        return None


class Synced:
    """It is on the server's disk: the server syncs before it answers, still; and says so (WAITAOF)
    where it can, ``timeout_s`` unless None. Its word alone is not enough: with ``appendfsync
    everysec`` Valkey 8 and 9 and Redis 7.4 call what they have not synced synced
    (https://github.com/redis/redis/pull/13793)."""

    def __init__(self, timeout_s: float | None) -> None:
        said = () if timeout_s is None else (("WAITAOF", 1, 0, _ms(timeout_s)),)
        self._waits = bool(said)
        self.commands: tuple[Args, ...] = (("CONFIG", "GET", "*append*"), *said)

    def lacks(self, replies: Sequence[Any]) -> str | None:
        for reply in replies:
            if isinstance(reply, Exception):
                return f"the server can't acknowledge ({reply})"
        settings = dict(zip(replies[0][::2], replies[0][1::2], strict=True))
        always = (settings.get(b"appendonly"), settings.get(b"appendfsync")) == (b"yes", b"always")
        pauses = settings.get(b"no-appendfsync-on-rewrite") != b"no" and not self._waits
        if not always or pauses:
            return "the server no longer syncs to its disk before it answers"
        if self._waits and replies[1][0] < 1:
            return "the server did not sync to its disk in time"
        return None


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


class Lane:
    """The pipelines to one server, over ``pool``. ``scripts`` are loaded where the server does not
    know them."""

    def __init__(
        self, pool: BlockingConnectionPool, scripts: Sequence[str], tasks: Tasks, name: str
    ) -> None:
        self.acknowledgement: Acknowledgement = NOTHING
        self._pool = pool
        self._scripts = scripts
        self._tasks = tasks
        self._name = name
        self._queue: deque[Command] = deque()
        self._awake = False
        self._under_way = 0

    @property
    def idle(self) -> bool:
        """Nothing waits, and nothing is under way."""
        return not self._queue and not self._under_way

    def submit(self, command: Command) -> asyncio.Future[Any]:
        """The reply: a value, or a server's error that says what was wrong with the command
        itself. Raises NotDone, ReplyLost, Unacknowledged."""
        if len(self._queue) >= QUEUE_MAX:
            raise NotDone(f"{self._name} does not keep up", elsewhere=False)
        self._queue.append(command)
        self._wake()
        return command.reply

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        """Take what has come; what finds every connection busy waits, and goes out together."""
        self._awake = False
        while self._queue and self._under_way < self._pool.max_connections:
            batch = self._next_batch()
            try:
                self._tasks.start(self._run(batch), name=f"{len(batch)} calls to {self._name}")
            except TasksClosed:
                _fail(batch, NotDone("the ledger is closed", elsewhere=False))
                return
            self._under_way += 1

    def _next_batch(self) -> list[Command]:
        batch: list[Command] = []
        size = 0
        while self._queue and len(batch) < BATCH_MAX and size < BATCH_BYTES_MAX:
            command = self._queue.popleft()
            if not command.reply.done():
                batch.append(command)
                size += command.size
        return batch

    async def _run(self, batch: list[Command]) -> None:
        try:
            await self._exchange(batch)
        except BaseException as error:
            _fail(batch, ReplyLost(f"{self._name}: {error!r}"))
            raise
        finally:
            self._under_way -= 1
            if self._queue:
                self._wake()

    async def _exchange(self, batch: list[Command]) -> None:
        try:
            connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        except (errors.RedisError, OSError, TimeoutError) as error:
            _fail(batch, NotDone(f"no connection to {self._name}: {error}", elsewhere=True))
            return
        try:
            unknown = await self._pipeline(connection, batch)
            if unknown:
                await self._load(connection)
                await self._pipeline(connection, unknown, last=True)
        except (errors.RedisError, OSError, TimeoutError) as error:
            await _hang_up(connection)
            _fail(batch, ReplyLost(f"{self._name} did not answer: {error}"))
        except BaseException:
            await _hang_up(connection)
            raise
        finally:
            await self._pool.release(connection)

    async def _load(self, connection: AbstractConnection) -> None:
        commands = [("SCRIPT", "LOAD", text) for text in self._scripts]
        await connection.send_packed_command(connection.pack_commands(commands))
        for _ in commands:
            await connection.read_response()

    async def _pipeline(
        self, connection: AbstractConnection, batch: list[Command], *, last: bool = False
    ) -> list[Command]:
        """Send, read, tell; the commands whose script the server does not know."""
        wire: list[Args] = []
        for command in batch:
            if command.on_send is not None:
                command.on_send()
            if command.asking:
                wire.append(("ASKING",))
            wire.append(command.args)
        acknowledgement = self.acknowledgement
        waited = any(command.acknowledged for command in batch)
        wire += acknowledgement.commands if waited else ()
        await connection.send_packed_command(connection.pack_commands(wire))
        replies = [await _read(connection, command) for command in batch]
        lack = None
        if waited:
            told = [await _reply(connection) for _ in acknowledgement.commands]
            lack = acknowledgement.lacks(told)
        unknown = []
        for command, reply in zip(batch, replies, strict=True):
            if isinstance(reply, errors.NoScriptError) and not last:
                unknown.append(command)
            else:
                _tell(command, reply, lack)
        return unknown


async def _read(connection: AbstractConnection, command: Command) -> Any:
    if command.asking:
        await _reply(connection)
    return await _reply(connection)


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except (errors.ResponseError, errors.BusyLoadingError) as error:
        return error


async def _hang_up(connection: AbstractConnection) -> None:
    with suppress(errors.RedisError, OSError, TimeoutError):
        await connection.disconnect()


ELSEWHERE = (
    errors.AskError,  # MOVED too
    errors.TryAgainError,
    errors.ClusterDownError,  # MASTERDOWN too
    errors.ReadOnlyError,
    errors.BusyLoadingError,
)
"""What another server, or this one a little later, may do."""

REFUSED = (
    errors.OutOfMemoryError,
    errors.NoPermissionError,
    errors.AuthenticationError,
    errors.NoScriptError,
)
"""What is refused before anything is done: a script meets it at its first write."""

# Redis before 7 wraps what stopped a script in a text of its own.
_ELSEWHERE = re.compile(r"-?\b(?:READONLY|LOADING|MASTERDOWN|TRYAGAIN|CLUSTERDOWN)\b")
_REFUSED = re.compile(r"-?\b(?:OOM|MISCONF|NOREPLICAS|BUSY|NOAUTH|NOPERM)\b")


def _tell(command: Command, reply: Any, lack: str | None) -> None:
    if command.reply.done():
        return
    if isinstance(reply, Exception):
        command.reply.set_exception(_meaning(reply))
    elif lack is not None and command.acknowledged:
        command.reply.set_exception(Unacknowledged(lack))
    else:
        command.reply.set_result(reply)


def _meaning(error: Exception) -> Exception:
    text = str(error) or type(error).__name__
    if isinstance(error, ELSEWHERE) or _ELSEWHERE.search(text):
        return NotDone(text, elsewhere=True, error=error)
    if isinstance(error, REFUSED) or _REFUSED.search(text):
        return NotDone(text, elsewhere=False, error=error)
    return ReplyLost(f"the server failed: {text}")


def _fail(batch: Sequence[Command], error: Exception) -> None:
    for command in batch:
        if not command.reply.done():
            command.reply.set_exception(error)
            command.reply.exception()  # told, though its caller may have left
