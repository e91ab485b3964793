"""The forms that are looked for. A detector's pattern proposes, its check disposes.

Every pattern takes time linear in the text: what may begin a match is bounded on its left, and what may repeat has a
bound or cannot begin anew within itself.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from contracts.personal_data import check_digits
from contracts.personal_data.kinds import Kind
from contracts.personal_data.phones import is_phone_number

Span = tuple[int, int]
_LONG_NUMBER = re.compile(r"\d(?:[ ().:/-]{0,3}\d){6}")


class Searched:
    """A text, and what of it is asked for often."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.small = text.lower()
        self.numeric = _LONG_NUMBER.search(text) is not None


@dataclass(frozen=True, slots=True)
class Detector:
    """`needs` and `numeric` spare most texts the search.

    `needs`: pieces, in small letters, of which a text must hold one. `numeric`: it must hold a long number.
    """

    kind: Kind
    pattern: re.Pattern[str]
    span: Callable[[re.Match[str]], Span | None]
    needs: tuple[str, ...] = ()
    numeric: bool = False

    def spans(self, searched: Searched) -> Iterator[Span]:
        if self.needs and not any(piece in searched.small for piece in self.needs):
            return
        if self.numeric and not searched.numeric:
            return
        for match in self.pattern.finditer(searched.text):
            if (found := self.span(match)) is not None:
                yield found


def _group(match: re.Match[str]) -> Span:
    """The named part where there is one, so that the words around it stay."""
    return match.span("value") if "value" in match.re.groupindex else match.span()


def _compact(match: re.Match[str]) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", match[0]).upper()


def _checked(check: Callable[[str], bool]) -> Callable[[re.Match[str]], Span | None]:
    """Where the number, without its separators, passes the check."""
    return lambda match: match.span() if check(_compact(match)) else None


def _card(match: re.Match[str]) -> Span | None:
    digits = _compact(match)
    return match.span() if digits[0] in "23456" and len(set(digits)) > 1 and check_digits.luhn(digits) else None


def _iban(match: re.Match[str]) -> Span | None:
    """The pattern may have taken words that follow; the country tells how long the number is."""
    length = check_digits.iban_length(match[0][:2].upper())
    compact = _compact(match)[:length]
    if not length or len(compact) < length or not check_digits.iban(compact):
        return None
    seen = 0
    for position, letter in enumerate(match[0]):
        seen += letter != " "
        if seen == length:
            return match.start(), match.start() + position + 1
    return None


def _ip_address(match: re.Match[str]) -> Span | None:
    try:
        address = ipaddress.ip_address(match[0])
    except ValueError:
        return None
    if address.version == 6 and sum(map(bool, match[0].split(":"))) < 3:  # `a::b` is code more often
        return None
    return None if address.is_loopback or address.is_unspecified or address.is_multicast else match.span()


def _labelled_secret(match: re.Match[str]) -> Span | None:
    """A word alone is a type, a sentence or a placeholder more often than a secret."""
    value = match["value"].rstrip(".,")
    if value.isalpha() or value.startswith(("$", "[", "<", "{", "%", "os.", "process.")):
        return None
    return match.start("value"), match.start("value") + len(value)


def _phone(match: re.Match[str]) -> Span | None:
    return match.span() if is_phone_number(match[0], announced=False) else None


def _announced_phone(match: re.Match[str]) -> Span | None:
    return match.span("value") if is_phone_number(match["value"], announced=True) else None


def _name(match: re.Match[str]) -> Span | None:
    return None if match["value"].split()[0] in _NO_NAMES else match.span("value")


_MONTHS = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}"
_DATE = (
    rf"(?:\d{{1,4}}[./-]\d{{1,2}}[./-]\d{{1,4}}|\d{{1,2}}(?:st|nd|rd|th)?\.? (?:of )?{_MONTHS},? \d{{4}}"
    rf"|{_MONTHS} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})"
)
_NO_NAMES = frozenset(
    (
        "All",
        "Colleague",
        "Colleagues",
        "Committee",
        "Customer",
        "Diary",
        "Editor",
        "Everyone",
        "Family",
        "Friend",
        "Friends",
        "Guest",
        "Hiring",
        "Human",
        "Investor",
        "Ladies",
        "Madam",
        "Members",
        "Parents",
        "Reader",
        "Recipient",
        "Sir",
        "Sirs",
        "Student",
        "Students",
        "Support",
        "Team",
        "User",
    )
)
NAME_BEGINS = "[A-ZÀ-ÖØ-ÞĀ-Ž]"
NAME_GOES_ON = r"[\w'’-]"
NAME_LABEL = (
    r"\b(?:[Mm]y (?:full )?name(?: is|['’]s)|(?:[Ff]ull |[Pp]atient |[Cc]ustomer )?[Nn]ame:|[Pp]atient:|Dear"
    r"|(?:Mr|Mrs|Ms|Dr|Prof)\.?|Herrn?|Frau|(?:Sincerely|[Rr]egards|[Ww]ishes),?)[ \n]{1,2}"
)
BIRTH_LABEL = r"\b(?:born(?: on)?|date of birth|d\.?o\.?b\.?|birthday(?: is)?|birthdate|geboren am)[:\s]{1,3}"
KEY_BEGINS = "-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----"
KEY_ENDS = "-----END [A-Z ]{0,20}PRIVATE KEY-----"
_NAME = rf"{NAME_BEGINS}{NAME_GOES_ON}{{1,30}}"

DETECTORS = (
    Detector(
        "secret",
        re.compile(rf"{KEY_BEGINS}.*?(?:{KEY_ENDS}|\Z)", re.DOTALL),
        _group,
        needs=("private key-----",),
    ),
    Detector(
        "secret",
        re.compile(
            r"(?<![A-Za-z0-9_-])(?:sk-[A-Za-z0-9_-]{16,200}|[rs]k_(?:live|test)_[A-Za-z0-9]{16,200}"
            r"|gh[opsru]_[A-Za-z0-9]{30,255}|github_pat_\w{22,255}|glpat-[\w-]{20,64}|xox[abprs]-[\w-]{10,255}"
            r"|A[KS]IA[A-Z0-9]{16}|AIza[\w-]{30,64}|hf_[A-Za-z0-9]{20,64}|npm_[A-Za-z0-9]{30,64}"
            r"|pypi-[\w-]{32,255}|SG\.[\w-]{16,64}\.[\w-]{16,64}"
            r"|eyJ[\w-]{8,4096}\.eyJ[\w-]{8,8192}\.[\w-]{8,4096})"
        ),
        _group,
        needs=("sk-", "k_", "gh", "glpat-", "xox", "akia", "asia", "aiza", "hf_", "npm_", "pypi-", "sg.", "eyj"),
    ),
    Detector(
        "secret",
        re.compile(r"\b(?:bearer|basic)[ \t]{1,3}(?P<value>[\w.~+/-]{16,4096}=*)", re.IGNORECASE),
        _group,
        needs=("bearer", "basic"),
    ),
    Detector(
        "secret",
        re.compile(r"\b[a-z][a-z0-9+.-]{1,15}://[^\s/:@]{0,64}:(?P<value>[^\s/@\[\]]{1,128})@"),
        _group,
        needs=("://",),
    ),
    Detector(
        "secret",
        re.compile(
            r"(?:password|passwd|passphrase|pwd|secret|api[ _-]?key|access[ _-]?key|token)\b[\"'`]?[ \t]{0,3}"
            r"(?:is|are|=>?|:=?)[ \t]{0,3}[\"'`]?(?P<value>[^\s\"'`,;<>(){}\[\]]{6,4096})",
            re.IGNORECASE,
        ),
        _labelled_secret,
        needs=("passw", "passphrase", "pwd", "secret", "key", "token"),
    ),
    Detector(
        "email",
        re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}(?:'[\w.+%-]{1,64})?@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])"),
        _group,
        needs=("@",),
    ),
    Detector(
        "iban", re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?!\w)", re.IGNORECASE), _iban, numeric=True
    ),
    Detector("card", re.compile(r"(?<![\w.,-])\d(?:[ -]?\d){12,18}(?![\w-])"), _card, numeric=True),
    Detector(
        "national_id",
        re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"),
        _checked(check_digits.american_ssn),
        numeric=True,
    ),
    Detector(
        "national_id",
        re.compile(
            r"\b(?:SSN|social security)\b[^\d\n]{0,20}(?P<value>\d{3}[ -]?\d{2}[ -]?\d{4})(?!\w)", re.IGNORECASE
        ),
        _group,
        needs=("ssn", "social security"),
    ),
    Detector(
        "national_id",  # the United Kingdom's National Insurance number
        re.compile(
            r"(?<!\w)(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D](?!\w)"
        ),
        _group,
    ),
    Detector(
        "national_id",
        re.compile(r"(?<![\w-])[\dXYZ]\d{7}-?[A-Z](?!\w)"),
        _checked(check_digits.spanish_dni),
        numeric=True,
    ),
    Detector(
        "national_id",
        re.compile(r"(?<!\w)[A-Z]{6}\d\d[A-EHLMPR-T]\d\d[A-Z]\d{3}[A-Z](?!\w)"),
        _checked(check_digits.italian_fiscal_code),
    ),
    Detector(
        "national_id",
        re.compile(r"(?<!\w)[12] ?\d\d ?[0-9]\d ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d(?!\w)"),
        _checked(check_digits.french_nir),
        numeric=True,
    ),
    Detector(
        "national_id",
        re.compile(r"(?<![\w.,-])\d\d ?\d{3} ?\d{3} ?\d{3}(?![\w-])"),
        _checked(check_digits.german_tax_id),
        numeric=True,
    ),
    Detector(
        "national_id",
        re.compile(r"(?<![\w.,-])\d{11}(?![\w-])"),
        _checked(check_digits.polish_pesel),
        numeric=True,
    ),
    Detector(
        "national_id",
        re.compile(r"(?<![\w.-])\d{3}\.\d{3}\.\d{3}-\d\d(?!\w)"),
        _checked(check_digits.brazilian_cpf),
        numeric=True,
    ),
    Detector(
        "national_id",
        re.compile(r"(?<![\w-])[2-9]\d{3} \d{4} \d{4}(?! ?\d)(?!\w)"),
        _checked(check_digits.indian_aadhaar),
        numeric=True,
    ),
    Detector(
        "ip_address",
        re.compile(r"(?<![\w.])(?<![Vv]ersion )\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\.?\w)"),
        _ip_address,
        needs=(".",),
    ),
    Detector(
        "ip_address",
        re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])"),
        _ip_address,
        needs=(":",),
    ),
    Detector(
        "phone",
        re.compile(
            r"\b(?:phone|telephone|tel|mobile|cell|call|fax|whatsapp|sms|text)\b[^\d\n+(]{0,24}"
            r"(?P<value>[+(]?\d(?:[ ()./-]{0,2}\d){6,16})(?![\w-])",
            re.IGNORECASE,
        ),
        _announced_phone,
        needs=("phone", "tel", "mobile", "cell", "call", "fax", "whatsapp", "sms", "text"),
        numeric=True,
    ),
    Detector(
        "phone",
        re.compile(r"(?<![\w.,/+-])[+(]?\d(?:[ ()./-]{0,2}\d){6,16}(?![\w-])"),
        _phone,
        numeric=True,
    ),
    Detector(
        "birth_date",
        re.compile(rf"{BIRTH_LABEL}(?P<value>{_DATE})", re.IGNORECASE),
        _group,
        needs=("born", "birth", "dob", "d.o.b", "geboren"),
    ),
    Detector(
        "name",
        re.compile(rf"{NAME_LABEL}(?P<value>{_NAME}(?: {_NAME}){{0,2}})"),
        _name,
        needs=("name", "patient", "dear", "mr", "ms", "dr", "prof", "herr", "frau", "sincerely", "regards", "wishes"),
    ),
)
