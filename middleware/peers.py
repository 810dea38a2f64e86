"""Who stands behind an address."""

import ipaddress


def peer_of(remote: str | None) -> str:
    """Who is held responsible: an address, or the network of 64 bits that one IPv6 host has."""
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return remote or ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
