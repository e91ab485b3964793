"""What is looked for."""

from typing import Literal, get_args

Kind = Literal["secret", "email", "iban", "card", "national_id", "ip_address", "phone", "birth_date", "name"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The first one that a piece of text may be is what it counts as."""
