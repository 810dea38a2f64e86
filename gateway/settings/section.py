"""What every part of a configuration is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Nothing is converted in silence and no unknown name is passed over."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


KIB, MIB, GIB = 1024, 1024**2, 1024**3
