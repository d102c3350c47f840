"""Personal data where a file has room besides its rows: properties, comments, hidden sheets, metadata, names of members."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable

import pytest
from sampan.contracts.registry import get_contract
from sampan.errors import PermanentFailure
from sampan.ingest import ledger, quarantine
from sampan.monitoring import page
from sampan.settings import settings

from tests.conftest import EXTERNAL_DSN
from tests.factory import DAY, Row, encode, rows
from tests.integration.test_privacy import (
    Planter,
    _files_of_the_server,
    everything,
    found_in,
    in_the_lake,
    server_log,
)

Make = Callable[[str, list[Row], Planter], bytes]


def workbook(feed: str, given: list[Row], planter: Planter) -> bytes:
    """A workbook with personal data in all of it that is not a cell of its sheet."""
    import xlsxwriter

    class Book(xlsxwriter.Workbook):
        def close(self) -> None:
            """The rows are written: add what is not one."""
            names = ("title", "subject", "author", "manager", "company", "keywords", "comments")
            self.set_properties({name: f"{planter.secret(name)} {planter.hkid('brackets')}" for name in names})
            self.set_custom_property(f"of {planter.hkid('bare')}", planter.secret("property"))
            self.define_name("owner", f'="{planter.hkid("brackets")} {planter.secret("defined name")}"')
            sheet = self.worksheets()[0]
            sheet.write_comment(2, 0, planter.secret("comment"), {"author": planter.secret("author")})
            sheet.set_header(f"&C{planter.secret('header')}")
            rule = {
                "validate": "list",
                "source": [planter.hkid("brackets"), "b"],
                "input_message": planter.secret("prompt"),
            }
            sheet.data_validation("B2:B9", rule)
            sheet.insert_textbox(3, 3, planter.secret("text box"))
            hidden = self.add_worksheet(f"of {planter.hkid('bare')}")
            hidden.very_hidden()
            hidden.write_row(0, 0, [planter.secret("hidden sheet"), planter.hkid("brackets")])
            super().close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xlsxwriter, "Workbook", Book)
        out = io.BytesIO(encode(get_contract(feed), given))
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(f"xl/media/{planter.hkid('brackets')}.png", planter.secret("picture"))
        archive.writestr(f"customXml/{planter.hkid('brackets')}.xml", f"<a b='{planter.secret('xml')}'/>")
        archive.comment = planter.secret("comment of the archive").encode()
    return out.getvalue()


def parquet(feed: str, given: list[Row], planter: Planter) -> bytes:
    """The same rows, with personal data in the metadata of the file and of its columns, and within a column's structure."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(encode(get_contract(feed), given)))
    nested = pa.array([{f"of {planter.hkid('brackets')}": planter.secret("within")}] * table.num_rows)
    table = table.append_column("more", nested)
    fields = [
        field.with_metadata({"note": planter.secret("note"), planter.hkid("brackets"): "x"}) for field in table.schema
    ]
    schema = pa.schema(fields, metadata={"owner": planter.secret("owner"), planter.hkid("bare"): "x"})
    out = io.BytesIO()
    pq.write_table(table.cast(schema), out)
    return out.getvalue()


def gzipped(feed: str, given: list[Row], planter: Planter) -> bytes:
    """The same rows, with personal data in the name, the comment and the extra field of the gzip header."""
    name, comment = planter.hkid("brackets").encode(), planter.secret("comment").encode()
    extra = planter.secret("extra").encode()
    head = b"\x1f\x8b\x08\x1c" + b"\0" * 6 + struct.pack("<H", len(extra)) + extra + name + b"\0" + comment + b"\0"
    return head + encode(get_contract(feed), given)[10:]


def skippable(feed: str, given: list[Row], planter: Planter) -> bytes:
    """The same rows behind a frame of zstd that every reader skips, and with keys that hold what values should."""
    import zstandard

    note = planter.secret("frame").encode()
    lines = (
        zstandard.ZstdDecompressor().decompressobj().decompress(encode(get_contract(feed), given)).decode().splitlines()
    )
    added = {
        planter.hkid("brackets"): planter.secret("value"),
        "buyer": {planter.hkid("bare"): [planter.secret("deep")]},
    }
    lines = [json.dumps(json.loads(line) | added) for line in lines]
    body = zstandard.ZstdCompressor().compress("".join(f"{line}\n" for line in lines).encode())
    return struct.pack("<II", 0x184D2A50, len(note)) + note + body


MADE: dict[str, Make] = {
    "hkecic_policies": workbook,
    "trade_missions": workbook,
    "hkecic_shipments": parquet,
    "customs_declarations": gzipped,
    "platform_traffic": gzipped,
    "platform_orders": skippable,
}


@pytest.mark.parametrize("feed", list(MADE))
def test_nothing_is_kept_of_what_a_file_holds_besides_its_rows(feed, partner, caplog, capfd):
    caplog.set_level("INFO")
    contract, planter = get_contract(feed), Planter(60 + list(MADE).index(feed))
    given = rows(feed, 60)
    given[0] |= {contract.key[0]: "?" * 200}
    body = MADE[feed](feed, given, planter)
    assert len(planter.needles) >= 3
    partner.puts(feed, DAY, f"{planter.hkid('brackets')}.{contract.source.extension}", body)
    batch = partner.ingest(feed)
    assert (batch["state"], batch["rows_quarantined"]) == ("published", 1), batch["problem"]
    # Cut off and mixed up, so that messages say what was found.
    for number, broken in enumerate((body[: len(body) * 2 // 3], body[: len(body) // 2] + body[len(body) // 2 + 40 :])):
        partner.puts(feed, DAY, f"broken {number} {planter.hkid('bare')}.{contract.source.extension}", broken)
    partner.ingest(feed)
    told = ""
    try:
        ledger.notify_owner(feed, batch["received_at"])
    except PermanentFailure as failure:
        told = str(failure)
    keys = partner.sampan.rows("select source_uri from ops.delivery")
    found = everything(settings().dsn("admin"))
    for (uri,) in keys:
        found = found.replace(uri, "")
    assert found_in(found, planter.needles) == set()
    assert found_in(in_the_lake(partner.sampan, feed), planter.needles) == set()
    entries = quarantine.entries(feed)
    shown = [told, *map(str, entries), *quarantine.export(contract, entries), caplog.text, *capfd.readouterr()]
    page.write(partner.sampan.state / "status" / "index.html")
    files = b"".join(file.read_bytes() for file in partner.sampan.state.rglob("*") if file.is_file())
    assert found_in("\n".join(shown).encode() + files, planter.needles) == set()
    landed = partner.sampan.s3.list_objects_v2(Bucket=settings().landing_bucket)["Contents"]
    heads = [partner.sampan.s3.head_object(Bucket=settings().landing_bucket, Key=item["Key"]) for item in landed]
    assert found_in(str(heads), planter.needles) == set()
    if EXTERNAL_DSN is None:
        # Addresses stay in the ledger, and a page of the write-ahead log may begin within one.
        addresses = found_in(str(keys), planter.needles)
        assert found_in(_files_of_the_server(), planter.needles) <= addresses
        assert found_in(server_log(), planter.needles) == set()
