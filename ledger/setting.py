"""An amount in a settings file, in tokens: `amounts.py` makes it exact by its token's decimals."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field

Amount = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
"""Such as 1.5, or "0.000001"."""
