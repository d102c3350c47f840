"""Review: proposed links that wait for a person, and decisions on any link."""

from __future__ import annotations

from typing import Any

from psycopg.rows import dict_row

from sampan.database import connect
from sampan.errors import Code, PermanentFailure, Problem, require_reason

VERDICTS = ("same", "different")


def list_proposals(state: str = "open", limit: int | None = 50) -> list[tuple[Any, ...]]:
    """Proposals in a state (open, accepted, rejected or withdrawn), the likeliest first.

    Columns: review_id, source, key, its names, number proposed, the names of that, probability, evidence, reason.
    """
    query = """
        select
            review_id,
            source,
            source_key,
            (
                select string_agg(name, ' / ' order by name) from ops.identity_name
                where identity_name.source = review.source and identity_name.source_key = review.source_key
            ) as names,
            number,
            (
                select string_agg(name, ' / ' order by name) from ops.identity_name
                where identity_name.source = 'number' and identity_name.source_key = review.number
            ) as number_names,
            round(probability::numeric, 3) as probability,
            evidence,
            reason
        from ops.identity_review as review
        where state = %s
        order by review.probability desc, source, source_key, position
        limit %s
    """
    with connect("builder") as connection:
        return connection.execute(query, [state, limit]).fetchall()


def get_proposal(review_id: int) -> dict[str, Any]:
    """One proposal with its evidence, the names of both sides, other proposals for its entity and the decisions on it.

    Raises PermanentFailure when there is no such proposal.
    """
    with connect("builder") as connection, connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute("select * from ops.identity_review where review_id = %s", [review_id]).fetchone()
        if found is None:
            raise PermanentFailure(Problem(Code.IDENTITY_REVIEW, f"no proposal {review_id}"))
        entity = [found["source"], found["source_key"]]

        def names_of(source: str, source_key: str) -> list[str]:
            query = "select name from ops.identity_name where source = %s and source_key = %s order by name"
            return [row["name"] for row in cursor.execute(query, [source, source_key])]

        others = cursor.execute(
            """
            select review_id, number, state, probability, evidence from ops.identity_review
            where source = %s and source_key = %s and review_id <> %s
            order by position
            """,
            [*entity, review_id],
        ).fetchall()
        decisions = cursor.execute(
            """
            select number, verdict, reason, decided_by, decided_at from ops.identity_decision
            where source = %s and source_key = %s
            order by decision_id
            """,
            entity,
        ).fetchall()
        return found | {
            "names": names_of(*entity), "number_names": names_of("number", found["number"]), "others": others,
            "decisions": decisions,
        }  # fmt: skip


def accept(review_id: int, reason: str, by: str) -> None:
    """Decide that the entity is the enterprise proposed; its other open proposals are withdrawn. Holds from the next build
    on."""
    decide(*_proposed(review_id, reason), "same", reason, by)


def reject(review_id: int, reason: str, by: str) -> None:
    """Decide that the entity is not the enterprise proposed, which is never proposed again."""
    decide(*_proposed(review_id, reason), "different", reason, by)


def decide(source: str, source_key: str, number: str, verdict: str, reason: str, by: str) -> None:
    """Decide whether an entity and an enterprise are `same` or `different`, proposed or not. The newest decision counts.

    Raises PermanentFailure when the reason is empty, the verdict unknown, or no feed has shown the entity or the number.
    """
    require_reason(reason, Code.IDENTITY_REASON)
    if verdict not in VERDICTS:
        message = f"unknown verdict {verdict!r}; verdicts: {', '.join(VERDICTS)}"
        raise PermanentFailure(Problem(Code.IDENTITY_VERDICT, message))
    with connect("builder", autocommit=False) as connection:
        for entity in ((source, source_key), ("number", number)):
            known = "select 1 from ops.identity_entity where source = %s and source_key = %s"
            if connection.execute(known, entity).fetchone() is None:
                message = f"unknown {entity[0]} {entity[1]}: no feed has shown it"
                raise PermanentFailure(Problem(Code.IDENTITY_UNKNOWN, message))
        connection.execute(
            """
            insert into ops.identity_decision (source, source_key, number, verdict, reason, decided_by)
            values (%s, %s, %s, %s, %s, %s)
            """,
            [source, source_key, number, verdict, reason, by],
        )
        connection.execute(
            "update ops.identity_review set state = %s where source = %s and source_key = %s and number = %s",
            ["accepted" if verdict == "same" else "rejected", source, source_key, number],
        )
        if verdict == "same":
            connection.execute(
                """
                update ops.identity_review set state = 'withdrawn'
                where source = %s and source_key = %s and number <> %s and state in ('open', 'accepted')
                """,
                [source, source_key, number],
            )
        connection.commit()


def _proposed(review_id: int, reason: str) -> tuple[str, str, str]:
    require_reason(reason, Code.IDENTITY_REASON)
    found = get_proposal(review_id)
    return found["source"], found["source_key"], found["number"]
