"""Alerts on their way out, to a real mail server and a webhook on loopback: to whom, when, and never twice."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from sampan.alerts import raise_alert
from sampan.calendar import HONG_KONG
from sampan.contracts.registry import get_contract
from sampan.database import connect
from sampan.governance import retention
from sampan.ingest import freshness
from sampan.monitoring import alert_list, send, status
from sampan.settings import settings

from tests.factory import DAY, encode, rows

FEED, OTHER = "customs_declarations", "business_register"


@dataclass
class Sink:
    """A mail server and a webhook that keep what they are given, and answer as they are told."""

    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answer: int = 200
    smtp: int = 0
    http: int = 0

    async def handle_DATA(self, server, session, envelope) -> str:  # noqa: N802
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 taken"


@pytest.fixture
def sink(sampan, monkeypatch) -> Iterator[Sink]:
    """Both, with the operators told by mail and webhook, and partners by mail."""
    kept = Sink()
    with socket.create_server(("127.0.0.1", 0)) as free:
        kept.smtp = free.getsockname()[1]
    controller = Controller(kept, hostname="127.0.0.1", port=kept.smtp)
    controller.start()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            kept.posts.append((self.headers["Idempotency-Key"], body))
            self.send_response(kept.answer)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    hook = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    kept.http = hook.server_address[1]
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    mail = f"mailto://127.0.0.1:{kept.smtp}?from=sampan@task-force.example&format=text"
    use(sampan, monkeypatch, f"{mail}&to=ops@task-force.example json://127.0.0.1:{kept.http}/hook", f"{mail}&to={{to}}")
    # Before anything is due.
    freshness.set_clock(datetime(2026, 7, 7, 1, tzinfo=HONG_KONG))
    yield kept
    controller.stop()
    hook.shutdown()
    hook.server_close()


def use(sampan, monkeypatch, operators: str, partners: str) -> None:
    for name, value in (("SAMPAN_NOTIFY_OPERATORS", operators), ("SAMPAN_NOTIFY_PARTNERS", partners)):
        monkeypatch.setenv(name, value)
        sampan.environment[name] = value
    settings.cache_clear()


def alert(kind: str, feed: str | None, message: str) -> None:
    with connect() as connection:
        raise_alert(connection, kind, feed, message)


def by_recipient(sink: Sink) -> dict[str, list[EmailMessage]]:
    found: dict[str, list[EmailMessage]] = {}
    for recipients, mail in sink.mails:
        for recipient in recipients:
            found.setdefault(recipient, []).append(mail)
    return found


def test_each_owner_gets_one_mail_of_its_own_causes_in_two_languages_and_operators_all(sink):
    alert("held", FEED, "batch 1 of 2026-07-06: cut.csv.gz: ends too early")
    alert("drift", FEED, "the column 備註 is not in the contract")
    alert("held", FEED, "batch 2 of 2026-07-07: cut.csv.gz: ends too early")
    alert("stale", OTHER, "the same as the day before")
    alert("carried", None, "build 7: the marts of marts__trade wait")
    assert send.run() == {"raised": 0, "sent": 4, "failed": 0, "unknown": 0}
    mails = by_recipient(sink)
    customs, register = get_contract(FEED).contact, get_contract(OTHER).contact
    assert set(mails) == {customs, register, "ops@task-force.example"}
    (mail,) = mails[customs]
    text = mail.get_content()
    for part in (
        "Deliveries are held or refused",
        "交付的資料被暫扣或拒收",
        "batch 1 of",
        "batch 2 of",
        "備註",
        "重新交付",
    ):
        assert part in text
    assert text.count("Deliveries are held or refused") == 1
    # The gravest cause first.
    assert text.index("batch 1 of") < text.index("備註")
    assert "the same as the day before" not in text
    assert "marts__trade" not in text
    assert (
        str(mail["subject"])
        == "[Sampan] Deliveries are held or refused (customs_declarations) · 交付的資料被暫扣或拒收 +1"
    )
    (mail,) = mails["ops@task-force.example"]
    assert all(part in mail.get_content() for part in ("batch 1 of", "the same as the day before", "marts__trade"))
    ((key, post),) = sink.posts
    assert "marts__trade" in post["message"]
    assert key in post["message"]
    assert len(key) == 36


def test_nothing_is_told_twice(sampan, sink):
    alert("stale", FEED, "batch 1 of 2026-07-06")
    assert send.run()["sent"] == 3
    assert send.run()["sent"] == 0
    # Word for word as before: no change of state.
    alert("stale", FEED, "batch 1 of 2026-07-06")
    assert send.run()["sent"] == 0
    alert("stale", FEED, "batch 2 of 2026-07-07")
    assert send.run()["sent"] == 3
    assert len(sink.posts) == 2
    assert sampan.one("select count(*) from ops.alert where sent_at is not null") == 2


@pytest.mark.parametrize(("point", "arrived"), [("alerts.before_send", 0), ("alerts.after_send", 1)])
def test_a_sender_that_dies_sends_nothing_twice_and_its_message_is_not_forgotten(point, arrived, sampan, sink):
    """Kind of fault: who restarts a sender cannot know whether its last message arrived, and sends it again."""
    alert("carried", None, "build 7: the marts of marts__trade wait")
    done = sampan.cli("alerts", "send", SAMPAN_FAILPOINT=point)
    assert done.returncode == -9
    sent = [mail for mail in sink.mails if "marts__trade" in mail[1].get_content()]
    assert len(sent) == arrived
    assert send.run() == {"raised": 0, "sent": 3, "failed": 0, "unknown": 1}
    assert send.run()["sent"] == 0
    told = [mail.get_content() for _, mail in sink.mails if "marts__trade" in mail.get_content()]
    assert len(told) == arrived
    # The webhook's message was not begun and is sent; of the mail, whose fate is unknown, the operators hear.
    assert [("marts__trade" in post["message"], "may not have arrived" in post["message"]) for _, post in sink.posts] == [
        (True, False), (False, True),
    ]  # fmt: skip
    (number,) = [row[0] for row in alert_list.unfinished()]
    assert any(f"message {number} to operators" in mail.get_content() for _, mail in sink.mails)
    keys = sampan.rows("select idempotency_key::text from ops.alert_message where message_id = %s", number)
    assert sampan.cli("alerts", "send", "--again", str(number)).returncode == 0
    assert sink.mails[-1][1]["Idempotency-Key"] == keys[0][0]
    assert "marts__trade" in sink.mails[-1][1].get_content()
    assert alert_list.unfinished() == []


def test_a_channel_that_says_no_is_asked_again_with_the_same_key_and_the_others_are_not(sampan, sink):
    sink.answer = 500
    alert("carried", None, "build 7: the marts of marts__trade wait")
    assert send.run() == {"raised": 0, "sent": 1, "failed": 1, "unknown": 0}
    # Not at once: a minute later at the earliest.
    assert send.run() == {"raised": 0, "sent": 0, "failed": 0, "unknown": 0}
    sampan.rows(
        "update ops.alert_message set ended_at = ended_at - interval '2 minutes' where state = 'failed' returning 1"
    )
    sink.answer = 200
    assert send.run() == {"raised": 0, "sent": 1, "failed": 0, "unknown": 0}
    assert len(sink.mails) == 1
    (first, second) = sink.posts
    assert first == second


def test_no_secret_of_an_address_is_stored_or_printed(sampan, sink, monkeypatch, caplog):
    # Many channels have their secret in the path. A debugger's log is a log, too.
    use(sampan, monkeypatch, f"json://user:hunter2@127.0.0.1:{sink.http}/hunter2 nonsense://hunter2", "")
    sink.answer = 403
    caplog.set_level(logging.DEBUG)
    alert("carried", None, "build 7: the marts of marts__trade wait")
    assert send.run()["failed"] == 2
    assert "hunter2" not in str(sampan.rows("select m::text from ops.alert_message m"))
    assert "hunter2" not in caplog.text


def test_texts_of_messages_are_forgotten_when_they_are_sent_or_a_week_old(sampan, sink):
    """Kind of fault: retention deletes the name of a file, and a copy of the alert that names it stays."""
    sink.answer = 500
    alert("stale", FEED, "list of Chan Tai Man.csv.gz: the same as the day before")
    assert send.run() == {"raised": 0, "sent": 2, "failed": 1, "unknown": 0}
    bodies = "select state, body like '%%Chan Tai Man%%' from ops.alert_message order by message_id"
    assert sampan.rows(bodies) == [("sent", None), ("failed", True), ("sent", None)]
    retention.run(DAY)
    assert sampan.rows(bodies)[1] == ("failed", True)
    sampan.rows("update ops.alert_message set made_at = made_at - interval '8 days' returning 1")
    retention.run(DAY)
    assert sampan.rows(bodies)[1] == ("failed", None)
    (number,) = [row[0] for row in alert_list.unfinished()]
    assert not send.again(number)


def test_without_addresses_nothing_is_sent_and_old_alerts_are_not_sent_later(sampan, sink, monkeypatch):
    use(sampan, monkeypatch, "", "")
    alert("carried", None, "of two days ago")
    sampan.rows("update ops.alert set raised_at = raised_at - interval '2 days' returning 1")
    alert("carried", None, "of today")
    assert send.run()["sent"] == 0
    use(sampan, monkeypatch, f"json://127.0.0.1:{sink.http}/hook", "")
    assert send.run()["sent"] == 1
    assert "of today" in sink.posts[0][1]["message"]
    assert "of two days ago" not in sink.posts[0][1]["message"]


def test_what_breaks_and_what_is_well_again_is_told_once_each(partner, sink):
    body = encode(get_contract(FEED), rows(FEED, 40))
    partner.puts(FEED, DAY, "cut.csv.gz", body[: len(body) // 2])
    # Something of the feed is on its way: it may replace what is held.
    assert send.run()["raised"] == 0
    partner.ingest(FEED)
    assert send.run()["raised"] == 1
    assert send.run()["raised"] == 0
    assert "[delivery.truncated]" in sink.posts[-1][1]["message"]
    partner.sampan.rows("update ops.batch set received_at = received_at - interval '1 minute' returning 1")
    partner.puts(FEED, DAY, "whole.csv.gz", body)
    partner.ingest(FEED)
    assert send.run() == {"raised": 1, "sent": 3, "failed": 0, "unknown": 0}
    assert "customs_declarations is well again" in sink.posts[-1][1]["message"]
    assert send.run()["raised"] == 0
    assert len(sink.posts) == 2
    assert partner.sampan.one("select count(*) from ops.alert where ended_at is null") == 0


def test_acknowledged_and_silenced_alerts_are_not_sent(sampan, sink):
    alert("stale", FEED, "the same as the day before")
    alert("deadline", FEED, "run 7 takes long")
    (stale, deadline) = [number for (number,) in sampan.rows("select alert_id from ops.alert order by 1")]
    assert alert_list.acknowledge([deadline], "it runs", "wong") == 1
    assert alert_list.acknowledge([deadline], "it runs", "wong") == 0
    until = datetime.now(HONG_KONG) + timedelta(hours=1)
    assert alert_list.silence(f"stale:{FEED}", until, "agreed", "wong") == 1
    alert("stale", FEED, "the same as two days before")
    assert send.run()["sent"] == 0
    assert status.newest_alerts(7, 10) == []
    listed = {row[0]: dict(zip(alert_list.COLUMNS, row, strict=True)) for row in alert_list.newest(10, True)}
    assert (listed[deadline]["by"], listed[stale]["silenced until"]) == ("wong", until)
    assert len(listed) == 3
    # The silence ends.
    alert_list.silence(f"stale:{FEED}", datetime.now(HONG_KONG), "it is over", "wong")
    assert send.run()["sent"] == 3
    assert sampan.rows("select reason, decided_by from ops.alert_silence order by 1") == [
        ("agreed", "wong"), ("it is over", "wong"),
    ]  # fmt: skip


def test_an_alert_is_cut_and_its_severity_follows_from_its_kind(sampan):
    alert("carried", None, "x" * 5000)
    alert("withdrawn", FEED, "batch 1")
    alert("checksum", FEED, "does not match")
    found = sampan.rows("select severity, length(message), cause from ops.alert order by alert_id")
    assert found == [
        ("critical", 4000, "carried"), ("info", 7, f"withdrawn:{FEED}"), ("warning", 14, f"checksum:{FEED}"),
    ]  # fmt: skip


HOSTILE = (
    "@everyone", "@all look", "(@here)", "<@U0123>", "<@&99>", "<!channel>", "<#C1>", "<http://evil.example|accept>",
    "[accept here](http://evil.example)", "![x](http://evil.example/x.png)", "[x][y]", "see https://evil.example/login",
    "www.evil.example", "HTTPS://EVIL.EXAMPLE", "tg://resolve?domain=x", "||hidden||", "~~gone~~", "<b>x</b>", "<a:b:1>",
)  # fmt: skip
# What chats take for a mention, a link with a text of its own, an address, hidden text, or a tag.
OBEYED = re.compile(
    r"(^|[^\w.+-])@\w|<[@!#/&:\w]|\][(\[:]|\w+://|www\.\w|\|\||~~", re.IGNORECASE | re.ASCII | re.MULTILINE
)  # fmt: skip


def test_a_chat_takes_nothing_in_a_message_for_its_own_marks(sink):
    """A partner's file name called everyone in a channel, or hid an address behind another text."""
    assert all(OBEYED.search(text) for text in HOSTILE)
    for text in (" ".join(HOSTILE[:9]), ", ".join(HOSTILE[9:])):
        alert("held", FEED, f"batch 1: for CED <data@customs.example>: {text}.csv: no header, see docs/problems.md#x")
    alert("missing", None, "s3://drop/customs/x `sampan load` ops@task-force.example 2 * 3 [HKID] (a|b) ~x")
    send.run()
    texts = [body["message"] for _, body in sink.posts]
    texts += [mail.get_content() for mails in by_recipient(sink).values() for mail in mails]
    assert any("evil" in text for text in texts)
    assert [line for text in texts for line in text.splitlines() if OBEYED.search(line)] == []
    # It reads the same.
    read = "\n".join(texts).replace("\u200b", "")
    assert all(text in read for text in ("<data@customs.example>", "s3://drop/customs/x `sampan load`", "@everyone"))
