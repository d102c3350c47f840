"""Commands of governance: retention, partitions of raw, the lake, and transfers to recipients."""

from __future__ import annotations

import getpass
from datetime import datetime
from typing import Annotated

import typer

from sampan.cli.arguments import Feeds, Limit, command_group, complete_mart, day_of
from sampan.cli.output import lists, message, out, table

commands = typer.Typer()
retention_group = command_group("Delete data past its retention, and list the proof of it.")
partitions_group = command_group("Partitions of raw: merge those of closed months.")
lake_group = command_group("The lake, which is raw as Parquet in the object store: bring it up to date, verify it.")
transfer_group = command_group("Transfers to recipients: agreements, and the register of what left.")


@retention_group.command("run")
def retention_run(
    allow_mass_delete: Annotated[
        bool, typer.Option("--allow-mass-delete", help="Delete even if most batches of a feed would go.")
    ] = False,
) -> None:
    """Delete data past its contract's retention: landing, drop, raw, quarantine, dbt's tables, old releases.

    Example: sampan retention run
    """
    from sampan.governance import retention

    done = retention.run(allow_mass_delete=allow_mass_delete)
    out.print("deleted: " + ", ".join(f"{count} {what}" for what, count in done.items()))


@retention_group.command("list")
@lists
def retention_list(limit: Limit = 50) -> None:
    """List the newest deletions: what, why, and when its absence was verified.

    Example: sampan retention list
    """
    from sampan.governance import retention

    headings = ["kind", "of", "why", "SHA-256", "objects", "rows", "verified absent at"]
    table("Deletions", headings, retention.proofs(limit), "Nothing was deleted.")


@partitions_group.command("compact")
def partitions_compact() -> None:
    """Merge the partitions of raw of each closed month into one. Readers notice nothing.

    Example: sampan partitions compact
    """
    from sampan.governance import compaction

    done = compaction.compact()
    out.print(f"{done['before']} partitions of closed months became {done['after']}.")


@lake_group.command("sync")
def lake_sync(feeds: Feeds = None) -> None:
    """Write what the lake lacks of raw, and remove what is not in raw, or is withdrawn.

    Example: sampan lake sync customs_declarations
    """
    from sampan.contracts.registry import feed_names
    from sampan.ingest import lake

    done = lake.sync(feeds or feed_names())
    out.print("lake: " + ", ".join(f"{count} {what}" for what, count in done.items()))


@lake_group.command("verify")
@lists
def lake_verify(feeds: Feeds = None) -> None:
    """Read the lake and landing to the end: does it have what raw and the ledger say? Exit code 1 when something differs.

    Example: sampan lake verify customs_declarations
    """
    from sampan.contracts.registry import feed_names
    from sampan.governance import verify

    read, found = verify.run(feeds or feed_names())
    headings = ["feed", "batch", "where", "what"]
    rows = [(item.feed, item.batch_id, item.place, item.what) for item in found]
    empty = f"{read['lake']:,} objects of the lake and {read['landing']:,} of landing are as the ledger says."
    table("Differences", headings, rows, empty)
    if found:
        message(
            f"{len(found)} differences. `sampan lake sync` writes the lake again from raw; a landed delivery comes from a"
            " backup of the store or from its partner"
        )
        raise typer.Exit(1)


@transfer_group.command("agreement")
def transfer_agreement(
    agreement_no: Annotated[str, typer.Argument(help="Number of the standard contract.")],
    recipient: Annotated[str, typer.Option(help="The recipient.")],
    city: Annotated[str, typer.Option(help="City of the recipient, by its English name.")],
    purpose: Annotated[str, typer.Option(help="What the data is used for.")],
    mart: Annotated[
        list[str], typer.Option(help="A mart that it covers; repeat the option for each.", autocompletion=complete_mart)
    ],
    start: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    end: Annotated[datetime, typer.Option("--until", formats=["%Y-%m-%d"], help="Last day.")],
    assessment: Annotated[str | None, typer.Option(help="Number of the impact assessment.")] = None,
    assessed_on: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day of the assessment.")] = None,
    filed_on: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="When it was filed.")] = None,
    bank: Annotated[str | None, typer.Option(help="The bank whose consents count, if the recipient is one.")] = None,
) -> None:
    """Register an agreement (a GBA standard contract) under which data may leave. A change is a new agreement.

    Example: sampan transfer agreement GBASC-9 --recipient "Bank of Nansha" --city Guangzhou --purpose "credit checks"
    --mart mart_published_exports --from 2026-07-01 --until 2027-06-30
    """
    from sampan.governance import transfer

    agreement = transfer.TransferAgreement(
        agreement_no, recipient, city, bank, purpose, mart, start.date(), end.date(), assessment, day_of(assessed_on),
        day_of(filed_on),
    )  # fmt: skip
    transfer.register_agreement(agreement, getpass.getuser())
    out.print(f"Agreement {agreement_no} registered.")


@transfer_group.command("record-filing")
def transfer_record_filing(
    agreement_no: Annotated[str, typer.Argument(help="Number of the standard contract.")],
    on: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Day on which it was filed.")],
) -> None:
    """Record the day on which an agreement was filed; that day cannot be changed later.

    Example: sampan transfer record-filing GBASC-9 --on 2026-07-10
    """
    from sampan.governance import transfer

    new = transfer.record_filing(agreement_no, on.date())
    out.print(
        f"Agreement {agreement_no} filed on {on:%Y-%m-%d}." if new else f"{agreement_no}: that day is recorded already."
    )


@transfer_group.command("list")
@lists
def transfer_list(limit: Limit = 50) -> None:
    """List the newest transfers: what left, to which recipient, under which agreement.

    Example: sampan transfer list
    """
    from sampan.governance import transfer

    headings = ["id", "mart", "release", "recipient", "city", "agreement", "rows", "SHA-256", "at"]
    table("Transfers", headings, transfer.register(limit), "Nothing was shared.")


@commands.command(rich_help_panel="Govern")
def share(
    mart: Annotated[
        str, typer.Argument(help="A published table, or mart_credit_features.", autocompletion=complete_mart)
    ],
    to: Annotated[str, typer.Option(help="The recipient, as the agreement names it.")],
    agreement: Annotated[str, typer.Option(help="Number of the agreement.")],
    into: Annotated[str, typer.Option(help="A new file, or s3://bucket/key.")],
) -> None:
    """Write a mart as CSV for a recipient, if a valid agreement covers it, and record it in the register.

    Example: sampan share mart_published_exports --to "Bank of Nansha" --agreement GBASC-9 --into exports.csv
    """
    from sampan.governance import transfer

    done = transfer.share(mart, to, agreement, into, getpass.getuser())
    out.print(
        f"transfer {done['transfer_id']}: {done['rows']:,} rows, SHA-256 {done['content_sha256']}", soft_wrap=True
    )
