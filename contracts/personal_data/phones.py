"""Phone numbers, by the numbering plans of the package `phonenumbers` (Google's libphonenumber)."""

import re
from functools import lru_cache

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "IN", "BR", "AU", "CH", "AT")
"""Where a number without a country code may belong."""
_DATE = re.compile(r"\d{4}[./-]\d{1,2}[./-]\d{1,2}(?!\d)|\d{1,2}[./-]\d{1,2}[./-]\d{2,4}(?!\d)")
_AMERICAN = re.compile(r"(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])\d{3}[ .-]\d{4}")
_WITH_TRUNK_PREFIX = re.compile(r"(?:\(0\d{1,5}\) ?|0\d{1,5}[ ./-]{1,2})\d{2,4}(?:[ .-]?\d{2,4}){1,4}")


@lru_cache(1024)
def is_phone_number(text: str, *, announced: bool) -> bool:
    """Whether digits are a phone number by their form, and where the form says little, by a country's plan.

    `announced` by a word such as "call". Digits in one piece that nothing announces are an identifier more often.
    """
    if _DATE.match(text):
        return False
    digits = re.sub(r"\D", "", text)
    if text.startswith("+") or (text.startswith("00") and len(digits) > 9):
        return _fits("+" + digits.removeprefix("00"), None)
    if announced:
        return 7 <= len(digits) <= 15
    if _AMERICAN.fullmatch(text):
        return _fits(text, "US")
    return _WITH_TRUNK_PREFIX.fullmatch(text) is not None and any(_fits(text, region) for region in REGIONS)


def _fits(text: str, region: str | None) -> bool:
    """With a country code a possible number is enough; without one it must be one that the country gives out."""
    import phonenumbers  # takes 0.1 s, and most processes never need it

    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number(number) if region is None else phonenumbers.is_valid_number(number)
