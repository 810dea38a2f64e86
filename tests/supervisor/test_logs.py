"""Each part of the gateway logs at its own level, which may change while it runs."""

import json
from typing import get_args

import pytest
import structlog

from gateway.settings import LogSettings
from gateway.settings.values import LOG_PARTS
from gateway.supervisor.logs import Levels
from gateway.telemetry import LogPart


def written(levels: Levels, part: str, level: str) -> bool:
    try:
        levels.gate(None, level, {"event": "x", "part": part})
    except structlog.DropEvent:
        return False
    return True


def test_a_part_has_its_own_level_and_all_others_the_common_one() -> None:
    settings = LogSettings(level="warning", levels={"ledger": "debug", "requests": "error"})
    levels = Levels(settings)
    assert written(levels, "ledger", "debug")
    assert not written(levels, "requests", "warning")
    assert written(levels, "requests", "exception")
    assert not written(levels, "orders", "info")
    assert written(levels, "orders", "warning")


def test_changed_levels_take_effect_with_the_next_line() -> None:
    levels = Levels(LogSettings())
    assert not written(levels, "orders", "debug")
    levels.apply(LogSettings(levels={"orders": "debug"}))
    assert written(levels, "orders", "debug")
    assert not written(levels, "requests", "debug")


def test_the_parts_of_the_settings_are_those_of_the_log() -> None:
    assert get_args(LogPart) == LOG_PARTS


@pytest.mark.parametrize("part", LOG_PARTS)
def test_every_part_may_have_a_level(part: str) -> None:
    assert json.loads(LogSettings(levels={part: "debug"}).model_dump_json())["levels"]
