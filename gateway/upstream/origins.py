"""Where an upstream listens."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

_PORT_OF_HTTP = 80


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port (RFC 9110 section 4.3.1). ``host`` has no brackets around IPv6."""

    host: str
    port: int
    scheme: Literal["http"] = "http"

    def __post_init__(self) -> None:
        if not self.host or not self.host.isascii() or set(self.host) & set(" /?#@[]\\%\r\n\t\0"):
            raise ValueError(f"not a host name or address: {self.host!r}")
        if not 1 <= self.port <= 65535:
            raise ValueError(f"not a port: {self.port}")

    @classmethod
    def parse(cls, url: str) -> "Origin":
        """Read ``http://host[:port]``. Raises ValueError on anything more, or of another scheme."""
        parts = urlsplit(url)
        if parts.scheme != "http":
            raise ValueError(f"an upstream's URL begins with http:// (no TLS as yet): {url!r}")
        if parts.path not in {"", "/"} or "?" in url or "#" in url or "@" in parts.netloc:
            raise ValueError(f"an upstream's URL is http://host:port and nothing more: {url!r}")
        if not parts.hostname:
            raise ValueError(f"an upstream's URL names a host: {url!r}")
        port = parts.port
        return cls(host=parts.hostname, port=_PORT_OF_HTTP if port is None else port)

    @property
    def authority(self) -> str:
        """The value of ``Host`` for this origin (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORT_OF_HTTP else f"{host}:{self.port}"
