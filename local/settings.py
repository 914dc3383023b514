"""What a table of local settings is: read once, frozen, each key under its description.

`rollcall/frame/settings.py` reads them from TOML. What is agreed with others is no setting, but `RunSpec`.
"""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A table of settings. An unknown key is an error: a misspelt one that is ignored is found weeks later."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
