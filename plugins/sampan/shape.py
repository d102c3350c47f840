"""What a line looks like whose fields keep their contract: one pattern, matched while the bytes pass to the warehouse.

The reader has to look at every byte for quotes anyway; the same pass can show that codes, lengths and required fields are in
order, and the gate need not ask the warehouse again. A delivery that does not fit the pattern has done nothing wrong yet: its
rules are then all asked by the gate, which alone says what broke.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from sampan.contract import Column, Contract
from sampan.privacy import PSEUDONYM

# A byte of content, until it is known whether quotes are around it.
ANY, PLAIN, QUOTED = b"\0", rb'[^",\r\n]', rb'[^"\r\n]'
# Patterns that RE2 and PostgreSQL read alike, and that cannot match beyond a field.
PORTABLE = re.compile(r"\^((?:[A-Za-z0-9_()|?*+-]|\[[A-Za-z0-9_-]+\]|\{\d+(?:,\d*)?\})+)\$")
# The greatest repetition that RE2 counts.
LONGEST = 1000


def of_lines(columns: Iterable[Column]) -> bytes:
    """Pattern for RE2 over bytes of whole CSV lines, in UTF-8, of these columns in order."""
    fields = (_field(column)[0] for column in columns)
    either = (b'(?:%s|"%s")' % (field.replace(ANY, PLAIN), field.replace(ANY, QUOTED)) for field in fields)
    return b"(?:" + b",".join(either) + rb"\r?\n)*"


def of_harmless_lines(columns: Sequence[Column]) -> bytes | None:
    """Pattern like `of_lines`, of lines in which no column that expects HKID numbers holds what might be a misspelt one.

    Such a column holds what its own pattern accepts, a pseudonym, or neither letter nor bracket. None where no column expects
    HKID numbers.
    """
    if not any(column.expects_hkid for column in columns):
        return None
    anything = rb'(?:[^",\r\n]*|"(?:[^"\n]|"")*")'
    fields = []
    for column in columns:
        if not column.expects_hkid:
            fields.append(anything)
            continue
        portable = PORTABLE.fullmatch(column.options.get("pattern", ""))
        accepted = [portable[1].encode()] if portable else []
        known = b"|".join([*accepted, PSEUDONYM.pattern.encode()])
        fields.append(rb'(?:%s|[^A-Za-z()",\r\n\x80-\xff]*|"(?:%s|[^A-Za-z()"\r\n\x80-\xff]*)")' % (known, known))
    return b"(?:" + b",".join(fields) + rb"\r?\n)*"


def proves_harmless(columns: Sequence[Column]) -> bool:
    """Whether every line that fits `of_lines` is a harmless one as well."""
    return all("pattern" in _field(column)[1] for column in columns if column.expects_hkid)


def rules(contract: Contract) -> frozenset[str]:
    """Names of the rules that no row can break whose line fits the pattern."""
    return frozenset(f"{column.name}.{rule}" for column in contract.stored for rule in _field(column)[1])


def digest(contract: Contract) -> str:
    """What the pattern proves, as SHA-256 in hex: another version of a contract may ask for more."""
    return hashlib.sha256(repr([(column.name, _field(column)) for column in contract.stored]).encode()).hexdigest()


def _field(column: Column) -> tuple[bytes, list[str]]:
    """Pattern of a column's field, and the rules that it proves."""
    portable = PORTABLE.fullmatch(column.options.get("pattern", ""))
    longest = column.options.get("maxLength", LONGEST + 1)
    content, proves = ANY + b"+", []
    if column.enum and not any(re.search('[",\r\n]', value) for value in column.enum):
        content, proves = b"(?:" + b"|".join(re.escape(value.encode()) for value in column.enum) + b")", ["enum"]
    elif portable:
        content, proves = b"(?:" + portable[1].encode() + b")", ["pattern"]
    elif longest <= LONGEST:
        # No text has more characters than bytes.
        content, proves = ANY + b"{1,%d}" % longest, ["max_length"]
    return (content, [*proves, "required"]) if column.required else (b"(?:" + content + b")?", proves)
