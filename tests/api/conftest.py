"""The same gateway and backend as the scenarios have."""

from tests.scenarios.conftest import OpenShop, backend, open_shop

__all__ = ["OpenShop", "Raw", "backend", "open_shop"]


class Raw:
    """TOML as it stands, also what follows the order route's last line: other sections."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text
