"""System calls of a running process made to fail, or to be its last, by strace."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

ATTACHED = b" attached"


def need_strace() -> None:
    """Skip where processes can't be traced."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run([strace, "-qq", "-o", "/dev/null", "true"], capture_output=True)
    if tried.returncode != 0:
        pytest.skip(f"strace can't trace here: {tried.stderr.decode().strip()}")


@asynccontextmanager
async def injected(pid: int, *injections: str, threads: bool = True) -> AsyncIterator[None]:
    """What strace calls injections (``fdatasync:error=EIO:when=1+``), from when this is entered,
    in all threads of the process or in its first alone, until it is left."""
    calls = ",".join({each.split(":")[0] for each in injections})
    options = [part for each in injections for part in ("-e", f"inject={each}")]
    strace = await asyncio.create_subprocess_exec(
        *("strace", *(("-f",) if threads else ()), "-p", str(pid)),
        *("-e", f"trace={calls}", "-o", "/dev/null", *options),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert strace.stderr is not None
    try:
        async with asyncio.timeout(10):
            line = await strace.stderr.readline()
            assert ATTACHED in line, line
        yield
    finally:
        if strace.returncode is None:
            strace.terminate()  # lets go of the process, and what it injects ends
        await strace.wait()
