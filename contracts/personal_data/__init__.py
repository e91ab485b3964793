"""Finds personal data and secrets in texts, and takes them out.

By form, with check digits where there are any, and phone numbers by Google's numbering plans (the package
`phonenumbers`). No model is asked, so a name is found only beside words that announce one ("my name is", "Dear",
"Mr."), and postal addresses and what only context makes personal are not found at all.
docs/decisions/014-capture.md says why, and how much is found.
"""

from contracts.personal_data.find import Finding, Redacted, count_findings, find_personal_data, redact
from contracts.personal_data.kinds import KINDS, Kind
from contracts.personal_data.pieces import PieceRedactor

__all__ = ["KINDS", "Finding", "Kind", "PieceRedactor", "Redacted", "count_findings", "find_personal_data", "redact"]
