"""Where an upstream listens."""

import ipaddress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port (RFC 9110 section 4.3.1). ``host`` has no brackets around IPv6."""

    host: str
    port: int
    scheme: Literal["http", "https"] = "http"

    def __post_init__(self) -> None:
        if not self.host or not self.host.isascii() or set(self.host) & set(" /?#@[]\\%\r\n\t\0"):
            raise ValueError(f"not a host name or address: {self.host!r}")
        if not 1 <= self.port <= 65535:
            raise ValueError(f"not a port: {self.port}")

    @classmethod
    def parse(cls, url: str) -> "Origin":
        """Read ``http://host[:port]`` or ``https://…``. Raises ValueError on anything more."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"an upstream's URL begins with http:// or https://: {url!r}")
        if parts.path not in {"", "/"} or "?" in url or "#" in url or "@" in parts.netloc:
            raise ValueError(f"an upstream's URL is scheme, host and port, nothing more: {url!r}")
        if not parts.hostname:
            raise ValueError(f"an upstream's URL names a host: {url!r}")
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
        return cls(parts.hostname, port, "https" if parts.scheme == "https" else "http")

    @property
    def authority(self) -> str:
        """The value of ``Host`` for this origin (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_address(self) -> bool:
        """Whether ``host`` needs no name resolution."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True
