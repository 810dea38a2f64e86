"""The configuration: a TOML file and ``ORDERGATE_…`` variables, checked as a whole.

``models`` is what there is to set; ``loading`` reads it and finds every mistake at once;
``checks`` and ``dangers`` say what the parts mean together.
"""

from gateway.settings.cache import CacheSettings
from gateway.settings.ledger import LedgerSettings
from gateway.settings.limits import LimitsSettings
from gateway.settings.loading import Loaded, load, load_document, load_with_warnings
from gateway.settings.models import ListenSettings, LogSettings, Settings
from gateway.settings.problems import SettingsInvalid, SettingsProblem
from gateway.settings.routes import RouteSettings
from gateway.settings.tokens import JwtSettings
from gateway.settings.upstreams import UpstreamSettings

__all__ = [
    "CacheSettings",
    "JwtSettings",
    "LedgerSettings",
    "LimitsSettings",
    "ListenSettings",
    "Loaded",
    "LogSettings",
    "RouteSettings",
    "Settings",
    "SettingsInvalid",
    "SettingsProblem",
    "UpstreamSettings",
    "load",
    "load_document",
    "load_with_warnings",
]
