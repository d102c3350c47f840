"""Commands of the identity: links between entities and enterprises that a person decides."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from sampan.cli.arguments import Limit, command_group
from sampan.cli.output import fields, lists, out, table

group = command_group("Which entity is which enterprise: likely links, and decisions.")
review_group = command_group("Likely links: list, show, accept, reject.")
group.add_typer(review_group, name="review")

Proposal = Annotated[int, typer.Argument(help="Number of the proposal, from `identity review list`.")]
Reason = Annotated[str, typer.Option(help="The evidence; kept with the decision.")]
TAKES_EFFECT = "it takes effect with the next refresh, within half an hour, or now with `sampan refresh`."


@review_group.command("list")
@lists
def identity_review_list(
    state: Annotated[str, typer.Option(help="open, accepted, rejected or withdrawn.")] = "open", limit: Limit = 50
) -> None:
    """List links that are likely but not certain, the likeliest first.

    Example: sampan identity review list
    """
    from sampan.identity import review

    rows = review.list_proposals(state, limit)
    headings = ["id", "source", "key", "its names", "number", "names of the number", "probability", "evidence", "why"]
    table(f"Proposals ({state})", headings, [(str(row[0]), *row[1:]) for row in rows], f"No proposal is {state}.")


@review_group.command("show")
@lists
def identity_review_show(review_id: Proposal) -> None:
    """Show one proposal: both sides, the evidence, other proposals, earlier decisions.

    Example: sampan identity review show 12
    """
    from sampan.identity import review

    found = review.get_proposal(review_id)
    shown = ("source", "source_key", "names", "number", "number_names", "state", "reason", "evidence")
    parts = {name.replace("_", " "): found[name] for name in shown}
    joined = {name: " / ".join(value) if isinstance(value, list) else value for name, value in parts.items()}
    fields({**joined, "probability": f"{found['probability']:.3f}", **found["details"]})
    others = [
        (str(row["review_id"]), row["number"], row["state"], f"{row['probability']:.3f}") for row in found["others"]
    ]
    table("Other proposals", ["id", "number", "state", "probability"], others, "There is no other proposal.")
    decided = [(r["number"], r["verdict"], r["reason"], r["decided_by"], r["decided_at"]) for r in found["decisions"]]
    table("Decisions", ["number", "verdict", "reason", "by", "at"], decided, "Nothing was decided before.")


@review_group.command("accept")
def identity_review_accept(review_id: Proposal, reason: Reason) -> None:
    """Decide that the two are one enterprise. Holds from the next build on.

    Example: sampan identity review accept 12 --reason "same licence number on its page"
    """
    from sampan.identity import review

    review.accept(review_id, reason, getpass.getuser())
    out.print(f"Proposal {review_id} accepted; {TAKES_EFFECT}")


@review_group.command("reject")
def identity_review_reject(review_id: Proposal, reason: Reason) -> None:
    """Decide that the two are not one enterprise; the link is never proposed again.

    Example: sampan identity review reject 12 --reason "another firm, by its licence"
    """
    from sampan.identity import review

    review.reject(review_id, reason, getpass.getuser())
    out.print(f"Proposal {review_id} rejected; {TAKES_EFFECT}")


@group.command("decide")
def identity_decide(
    source: Annotated[str, typer.Argument(help="Kind of identifier: shop, certificate, mission or number.")],
    key: Annotated[str, typer.Argument(help="The identifier, as in ops.identity_link.")],
    number: Annotated[str, typer.Argument(help="Registration number of the enterprise.")],
    verdict: Annotated[str, typer.Argument(help="same or different.")],
    reason: Reason,
) -> None:
    """Decide which enterprise an entity is or is not, proposed or not: fixes a wrong link, or merges two numbers.

    Example: sampan identity decide shop jd:1 90000001 same --reason "its page names the company"
    """
    from sampan.identity import review

    review.decide(source, key, number, verdict, reason, getpass.getuser())
    out.print(f"Decided; {TAKES_EFFECT}")
