"""The proxies that are compared, each with a configuration as plain as its manual's first page."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pinned import ROOT

ANSWER = '{"order":"$http_idempotency_key","status":"confirmed","note":"' + "x" * 950 + '"}'
"""About 1 KiB, and of an order its own: the backend echoes the key."""

_NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; default_type application/json; keepalive_requests 1000000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxied;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {more}
}}
"""
_BACKEND = (
    """server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 201 '{answer}'; }} }}"""
)
_PROXY = """
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
  }}
"""
_HAPROXY = """
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
listen proxy
  bind 127.0.0.1:{port}
  server backend 127.0.0.1:{backend}
"""
_ORDERGATE = """
[listen]
address = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
[ledger]
url = "sqlite:///ledger.db"
[[upstreams]]
name = "backend"
urls = ["http://127.0.0.1:{backend}"]
[[routes]]
name = "place-order"
match = "POST /orders"
upstream = "backend"
{route}
[log]
level = "{level}"
"""
_PLAIN = 'kind = "plain"'
_ORDER = """kind = "order"
capability = "lookup"
lookup = "GET /orders?idempotency_key={key}"
scope = ["header:Authorization"]
scope_is_static = true"""


@dataclass(frozen=True, slots=True)
class Contestant:
    """``command`` writes the configuration into a folder and says how to start it."""

    title: str
    command: Callable[[Path, int, int], list[str]]
    needs: str | None = None
    orders: bool = False


def nginx(folder: Path, more: str) -> list[str]:
    file = folder / "nginx.conf"
    file.write_text(_NGINX.format(folder=folder, more=more))
    return ["nginx", "-p", str(folder), "-c", str(file)]


def backend(folder: Path, port: int) -> list[str]:
    return nginx(folder, _BACKEND.format(port=port, answer=ANSWER))


def _nginx_proxy(folder: Path, port: int, backend: int) -> list[str]:
    return nginx(folder, _PROXY.format(port=port, backend=backend))


def _haproxy(folder: Path, port: int, backend: int) -> list[str]:
    file = folder / "haproxy.cfg"
    file.write_text(_HAPROXY.format(port=port, backend=backend))
    return ["haproxy", "-db", "-f", str(file)]


def _bare(_folder: Path, port: int, backend: int) -> list[str]:
    proxy = ROOT / "benchmarks" / "bare_proxy.py"
    return [sys.executable, str(proxy), str(port), f"http://127.0.0.1:{backend}"]


def gateway(
    folder: Path, kind: str, port: int, admin: int, backend: int, level: str = "warning"
) -> list[str]:
    """The gateway with one route, of this kind, for orders."""
    file = folder / f"{kind}-{port}.toml"
    route = _ORDER if kind == "order" else _PLAIN
    text = _ORDERGATE.format(port=port, admin=admin, backend=backend, route=route, level=level)
    file.write_text(text)
    return [sys.executable, "-m", "gateway", "serve", "--config", str(file)]


def _ordergate(kind: str, level: str) -> Callable[[Path, int, int], list[str]]:
    return lambda folder, port, backend: gateway(folder, kind, port, 0, backend, level)


CONTESTANTS: Mapping[str, Contestant] = {
    "nginx": Contestant("nginx proxy_pass", _nginx_proxy, needs="nginx"),
    "haproxy": Contestant("HAProxy", _haproxy, needs="haproxy"),
    "bare": Contestant("bare aiohttp proxy", _bare),
    "plain": Contestant("Ordergate, plain", _ordergate("plain", "warning")),
    "plain-logged": Contestant("Ordergate, plain, a log line each", _ordergate("plain", "info")),
    "order": Contestant(
        "Ordergate, order, SQLite fsync", _ordergate("order", "warning"), orders=True
    ),
}
