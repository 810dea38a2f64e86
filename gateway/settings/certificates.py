"""TLS to an upstream, made from the files that its settings name."""

import ssl

from gateway.settings.upstreams import UpstreamSettings


class CertificatesInvalid(ValueError):
    """A file can't be used; ``setting`` names it."""

    def __init__(self, setting: str, why: str) -> None:
        super().__init__(why)
        self.setting = setting


def client_context(upstream: UpstreamSettings) -> ssl.SSLContext | None:
    """A context that verifies the upstream's certificate and name, or None for plain HTTP.

    TLS 1.2 at least; HTTP/1.1 is the only protocol offered. Raises CertificatesInvalid.
    """
    if not upstream.url.startswith("https://"):
        return None
    context = ssl.create_default_context(cafile=None)
    if upstream.ca_file is not None:
        context = _trusting(upstream.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_client_certificate(context, upstream)
    return context


def _trusting(ca_file: str) -> ssl.SSLContext:
    """``ca_file`` alone is trusted, and not the system's authorities beside it."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise CertificatesInvalid("ca_file", _why(ca_file, error)) from error


def load_client_certificate(context: ssl.SSLContext, upstream: UpstreamSettings) -> None:
    """Read the client certificate, also anew into a context in use: new connections show it.

    Raises CertificatesInvalid; the context then shows what it showed before.
    """
    certificate = upstream.client_cert_file
    if certificate is None:
        return
    try:
        # An encrypted key is refused: without the empty password OpenSSL would ask the terminal.
        context.load_cert_chain(certificate, upstream.client_key_file, password="")
    except (OSError, ssl.SSLError) as error:
        raise CertificatesInvalid("client_cert_file", _why(certificate, error)) from error


def _why(file: str, error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "not PEM").lower().replace("_", " ")
        return f"{file} can't be used: {reason}"
    return f"{error.filename or file} can't be read: {error.strerror}"
