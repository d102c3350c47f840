"""What partners and their APIs say besides records, made fit for tables, logs and messages."""

from __future__ import annotations

import re

from sampan.contracts.model import Contract
from sampan.reading.personal_data import Pseudonymiser
from sampan.text import printable


class _Hiding(Pseudonymiser):
    """Replaces personal numbers by a word. A pseudonym would tell who can choose the text whether it links to a row."""

    def __call__(self, value: str) -> str:
        return "[HKID]"


HIDING = _Hiding(b"", 0)
# Characters that are searched behind those that are shown: what is left of a number that is cut off is not recognised.
BEHIND = 400


def hidden(text: str, expects_hkid: bool = False) -> str:
    """A partner's text without HKID numbers; with `expects_hkid` also without what resembles a mistyped one."""
    return HIDING.clean_text(text, expects_hkid)


def shown(text: str, expects_hkid: bool = False) -> str:
    """A partner's text without HKID numbers, as above, on one line and without control characters."""
    return printable(hidden(text, expects_hkid), keep="")


def beginning(text: str, most: int) -> str:
    """The first characters of a partner's text, as `shown` gives it: about `most`, and none of a number that is cut off."""
    searched = text[: most + BEHIND]
    cleaned = hidden(searched)
    return printable(cleaned if searched == text else cleaned[:-BEHIND], keep="")


def shown_uri(contract: Contract, uri: str) -> str:
    """Address of a delivery as it is stored and shown: what follows the feed's prefix or the bucket is the partner's text."""
    place = re.match(f"s3://[^/]+/(?:{re.escape(contract.drop_prefix)})?", uri)
    end = place.end() if place else 0
    return uri[:end] + shown(uri[end:], expects_hkid=True)
