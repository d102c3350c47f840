"""The settings of an installation: what is refused, and that no secret is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from sampan.errors import PermanentFailure
from sampan.settings import Settings


@pytest.mark.parametrize(
    "value", ["", "00" * 31, "0" * 63, "a passphrase of more than sixty-four characters is not a hexadecimal number"]
)
def test_a_pseudonym_key_is_refused_and_not_shown_when_it_is_not_hex_of_32_bytes(value):
    with pytest.raises(PermanentFailure) as refused:
        _ = Settings(Path(), Path(), {"SAMPAN_PSEUDONYM_KEY": value}).pseudonym_key
    assert refused.value.problem.rule == "settings.pseudonym_key"
    assert "SAMPAN_PSEUDONYM_KEY is not hex" in str(refused.value)
    assert not value or value not in str(refused.value)


def test_a_pseudonym_key_may_have_more_than_32_bytes():
    assert Settings(Path(), Path(), {"SAMPAN_PSEUDONYM_KEY": "ab" * 40}).pseudonym_key == b"\xab" * 40


def test_the_oldest_pseudonym_key_is_the_lowest_version_that_is_still_held():
    values = {f"SAMPAN_PSEUDONYM_KEY{name}": key * 32 for name, key in (("", "cc"), ("_2", "bb"), ("_1", "aa"))}
    rotated = Settings(Path(), Path(), values | {"SAMPAN_PSEUDONYM_KEY_VERSION": "3"})
    assert rotated.oldest_pseudonym_key == (b"\xaa" * 32, 1)
    assert Settings(Path(), Path(), values).oldest_pseudonym_key is None
    assert Settings(Path(), Path(), {"SAMPAN_PSEUDONYM_KEY": "cc" * 32}).oldest_pseudonym_key is None
