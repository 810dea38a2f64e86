"""What the cache costs: a decision, a hit, memory: ``./run bench cache``.

Hits over the socket are compared with a bare aiohttp handler that returns the same bytes; each
server runs on one core, the clients on the other, and the two alternate. ``--plot FILE`` draws
how a look-up takes to the number of entries and of variants.
"""

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.pinned import LOAD_CORE, ROOT, SERVER_CORE, cpu_s, free_ports, running, wait_for
from middleware.caching.asked import Asked, Received
from middleware.caching.entries import make_entry
from middleware.caching.memory import VARIANTS_MAX, MemoryStore
from middleware.caching.rules import Serve, decide
from middleware.caching.storing import Keep, StoringPolicy, may_store
from middleware.messages import RawHeaders

BODY = b"x" * 4096
BROWSER: RawHeaders = (
    (b"Host", b"shop.example"),
    (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"Accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"Accept-Encoding", b"gzip, deflate, br, zstd"),
    (b"Referer", b"http://shop.example/catalog"),
    (b"Connection", b"keep-alive"),
    (b"Sec-Fetch-Mode", b"navigate"),
)
FRONT: RawHeaders = (
    (b"X-Forwarded-For", b"192.0.2.7"),
    (b"X-Forwarded-Host", b"shop.example"),
    (b"X-Forwarded-Port", b"443"),
    (b"X-Forwarded-Proto", b"https"),
)
CONFIG = """
[listen]
address = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
[ledger]
url = "sqlite:///ledger.db"
[[upstreams]]
name = "backend"
urls = ["http://127.0.0.1:{backend}"]
{strict}
[[routes]]
name = "all"
match = "GET /**"
kind = "cached"
upstream = "backend"
[log]
level = "warning"
"""
STRICT = """[[routes]]
name = "page"
match = "GET /page"
kind = "cached"
upstream = "backend"
[[routes]]
name = "order"
match = "POST /page"
kind = "order"
upstream = "backend"
capability = "none"
"""
SERVER = """
import asyncio, sys
from aiohttp import web
async def page(request):
    return web.Response(body=b"x" * 4096, content_type="text/html",
                        headers={"Cache-Control": "public, max-age=3600", "ETag": '"a"'})
async def main():
    app = web.Application()
    app.router.add_get("/{rest:.*}", page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    await asyncio.Event().wait()
if len(sys.argv) > 2:
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""
LOAD = "benchmarks.cache_load"
ALONE, NEAR = "1000 of 1000", "1000 of 100000, side by side"
ALL = "100000 of 100000"


def asked(path: bytes, language: bytes, front: RawHeaders = ()) -> Asked:
    headers = (*BROWSER, *front, (b"Accept-Language", language))
    return Asked(b"GET", b"shop.example", path, headers)


def filled(entries: int, variants: int, body: bytes = BODY, front: RawHeaders = ()) -> MemoryStore:
    """``front``: what trusted proxies add."""
    policy = StoringPolicy(behind_proxies=bool(front))
    store = MemoryStore(1 << 40, lambda _pattern, _path: False)
    now = time.time()
    vary: RawHeaders = ((b"Vary", b"Accept-Language"),) if variants > 1 else ()
    head: RawHeaders = (
        (b"Cache-Control", b"public, max-age=3600"),
        (b"Content-Type", b"text/html; charset=utf-8"),
        (b"Gateway-Source", b"upstream"),
    )
    for number in range(entries):
        for variant in range(variants):
            request = asked(b"/catalog/%d" % number, b"en-%d" % variant, front)
            etag = (b"ETag", b'"%d-%d"' % (number, variant))
            answer = Received(200, b"OK", (*head, etag, *vary), now, now)
            keep = may_store(request, answer, policy)
            assert isinstance(keep, Keep)
            entry = make_entry(
                request,
                answer,
                keep,
                bytes(bytearray(body)),
                since=time.monotonic(),
                position=0,
                storing=policy,
                strict=False,
            )
            store.put(entry)
    return store


class Visited(NamedTuple):
    """Which entries are asked for: so many, in no order, each so many from the next."""

    count: int
    apart: int = 1

    def numbers(self, rounds: int) -> Iterator[int]:
        return (number * 7919 % self.count * self.apart for number in range(rounds))


def decision_us(
    store: MemoryStore, visited: Visited, variants: int, front: RawHeaders = ()
) -> float:
    """The median, from a request's bytes already split into fields to the decision."""
    spent = []
    for number, page in enumerate(visited.numbers(20_000)):
        path = b"/catalog/%d" % page
        headers = (*BROWSER, *front, (b"Accept-Language", b"en-%d" % (number % variants)))
        began = time.perf_counter_ns()
        request = Asked(b"GET", b"shop.example", path, headers)
        entry, varies = store.find(request)
        decision = decide(
            request, entry, now=time.monotonic(), wall=0.0, varies=varies, strict=False
        )
        spent.append(time.perf_counter_ns() - began)
        assert isinstance(decision, Serve)
    return statistics.median(spent) / 1000


class Link:
    """One object that leads to the next, as a resource does to a place, and that to an entry."""

    __slots__ = ("next", "number")

    def __init__(self, number: int, next_: "Link | None") -> None:
        self.number = number
        self.next = next_


def bare_dict(entries: int) -> dict[tuple[bytes, bytes, bool], Link]:
    return {
        (b"shop.example", b"/catalog/%d" % number, False): Link(number, Link(number, Link(1, None)))
        for number in range(entries)
    }


def bare_us(table: dict[tuple[bytes, bytes, bool], Link], visited: Visited) -> float:
    """A look-up in a dictionary and three objects behind it: what Python can't do for less."""
    spent = []
    for page in visited.numbers(20_000):
        path = b"/catalog/%d" % page
        began = time.perf_counter_ns()
        link: Link | None = table[b"shop.example", path, False]
        while link is not None:
            found, link = link.number, link.next
        spent.append(time.perf_counter_ns() - began)
        assert found == 1
    return statistics.median(spent) / 1000


def by_size(rounds: int = 9) -> dict[str, dict[str, float]]:
    """What of a decision among 100,000 entries is due to their number, and what to memory that the
    processor has not at hand: where only some of them are asked for, the others cost nothing if it
    is the memory, and a bare dictionary shows the same. Taken in turns, so that what else the
    machine does slows all of them down."""
    stores = {size: filled(size, 1, b"x" * 100) for size in (1000, 100_000)}
    tables = {size: bare_dict(size) for size in stores}
    cases = {
        ALONE: (1000, Visited(1000)),
        NEAR: (100_000, Visited(1000)),
        "100 of 100000, spread": (100_000, Visited(100, 1000)),
        "1000 of 100000, spread": (100_000, Visited(1000, 100)),
        "10000 of 100000, side by side": (100_000, Visited(10_000)),
        ALL: (100_000, Visited(100_000)),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (size, visited) in cases.items():
            decided = decision_us(stores[size], visited, 1)
            taken[name].append((decided, bare_us(tables[size], visited)))
    return {
        name: {
            "decision": round(statistics.median(each for each, _ in found), 2),
            "bare_dict": round(statistics.median(each for _, each in found), 2),
        }
        for name, found in taken.items()
    }


def memory(entries: int, body_bytes: int) -> dict[str, float]:
    """What one entry takes, by the bytes of its head and body, and by the store's own count."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    store = filled(entries, 1, b"x" * body_bytes)
    gc.collect()
    took = (tracemalloc.get_traced_memory()[0] - before) / entries
    tracemalloc.stop()
    own = sum(len(e.lines) + len(e.body) + len(e.target) for e in store.entries()) / entries
    return {
        "body_bytes": body_bytes,
        "entry_bytes": round(own),
        "took_bytes": round(took),
        "counted_bytes": round(store.bytes_used / entries),
        "allowed_bytes": round(1.3 * own + 1024),
    }


def measure(command: list[str], port: int, options: argparse.Namespace) -> tuple[float, float]:
    """Answers a second, and the server's CPU for each in microseconds: the steadier figure."""
    with running(command, SERVER_CORE) as server:
        wait_for(port)
        began = cpu_s(server.pid)
        load = ["taskset", "-c", str(LOAD_CORE), sys.executable, "-m", LOAD, str(port)]
        load += [str(options.clients), str(options.seconds)]
        done = subprocess.run(load, cwd=ROOT, capture_output=True, text=True, check=True)
        rate, count = done.stdout.split()
        return float(rate), round((cpu_s(server.pid) - began) / int(count) * 1e6, 1)


def socket_rates(options: argparse.Namespace) -> dict[str, Any]:
    rates: dict[str, list[tuple[float, float]]] = {
        "bare": [],
        "bare_uvloop": [],
        "hit": [],
        "checked_hit": [],
    }
    with tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as folder:
        server = Path(folder) / "server.py"
        server.write_text(SERVER)
        (backend,) = free_ports(1)
        with running([sys.executable, str(server), str(backend)], LOAD_CORE):
            wait_for(backend)
            for _ in range(options.rounds):
                for name, found in rates.items():
                    port, admin = free_ports(2)
                    command = [sys.executable, str(server), str(port)]
                    if name == "bare_uvloop":
                        command.append("uvloop")
                    if name.endswith("hit"):
                        file = Path(folder) / f"{port}.toml"
                        strict = STRICT if name == "checked_hit" else ""
                        file.write_text(
                            CONFIG.format(port=port, admin=admin, backend=backend, strict=strict)
                        )
                        command = [sys.executable, "-m", "gateway", "serve", "--config", str(file)]
                    found.append(measure(command, port, options))
                    print(name, found[-1], flush=True)
    medians = {name: statistics.median(rate for rate, _ in rs) for name, rs in rates.items()}
    cpu = {name: statistics.median(spent for _, spent in rs) for name, rs in rates.items()}
    by_bare = {
        f"{name}_by_{bare}": round(medians[name] / medians[bare], 2)
        for name in ("hit", "checked_hit")
        for bare in ("bare", "bare_uvloop")
    }
    return {"per_s": medians, "cpu_us": cpu} | by_bare


async def check_us(count: int = 2000) -> float:
    """One question to the log of changes on SQLite, asked one after the other."""
    from gateway.stores.sqlite_changes import SqliteChangeLog

    with tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as folder:
        log = SqliteChangeLog(Path(folder) / "log")
        position = (await log.since(-1)).position
        began = time.perf_counter()
        for _ in range(count):
            await log.since(position)
        spent = time.perf_counter() - began
        await log.close()
    return round(spent / count * 1e6, 1)


def verdicts(summary: dict[str, Any]) -> list[str]:
    """Each bound, and whether this run kept it."""
    decisions, socket, sizes = summary["decision_us"], summary["socket"], summary["by_size_us"]
    slowest = max(decisions.values())
    beside = sizes[NEAR]["decision"] / sizes[ALONE]["decision"]
    cold, bare = (sizes[ALL][what] - sizes[NEAR][what] for what in ("decision", "bare_dict"))
    over = [each for each in summary["memory"] if each["took_bytes"] > each["allowed_bytes"]]
    bounds = {
        f"a hit decision takes at most 5 µs: {slowest}": slowest <= 5,
        f"1,000 entries are as quick beside 99,000 others as alone: {beside:.2f} times": (
            beside <= 1.15
        ),
        f"asked for in no order, all 100,000 take {cold:.2f} µs more, for the memory (a bare"
        f" dictionary {bare:.2f}), and at most 5 µs": sizes[ALL]["decision"] <= 5,
        f"an entry takes at most 1.3 times its bytes and 1 KiB: {len(over)} sizes do not": not over,
        f"hits reach 0.9 times a bare handler's requests/s: {socket['hit_by_bare']}": (
            socket["hit_by_bare"] >= 0.9
        ),
    }
    return [f"{'kept' if kept else 'MISSED'}: {bound}" for bound, kept in bounds.items()]


def plot(file: str, decisions: dict[str, float]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.bar(list(decisions), list(decisions.values()), color="#3b6ea5")
    axes.axhline(5, color="#b03030", linestyle="--", label="bound")
    axes.set_ylabel("hit decision, median µs")
    axes.legend()
    figure.tight_layout()
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--plot", metavar="FILE")
    options = parser.parse_args()
    decisions = {}
    for entries, variants in ((1, 1), (1000, 1), (100_000, 1), (1, VARIANTS_MAX), (1000, 8)):
        store = filled(entries, variants, b"x" * 100)
        name = f"{entries} entries, {variants} variants"
        decisions[name] = round(decision_us(store, Visited(entries), variants), 2)
        del store
    fronted = filled(1000, 1, b"x" * 100, FRONT)
    decisions["1000 entries behind proxies"] = round(
        decision_us(fronted, Visited(1000), 1, FRONT), 2
    )
    del fronted
    summary = {
        "decision_us": decisions,
        "by_size_us": by_size(),
        "memory": [memory(2000, size) for size in (100, 1000, 10_000)],
        "check_us": asyncio.run(check_us()),
        "socket": socket_rates(options),
    }
    if options.plot:
        plot(options.plot, decisions)
    print(json.dumps(summary))
    print("\n".join(verdicts(summary)))


if __name__ == "__main__":
    main()
