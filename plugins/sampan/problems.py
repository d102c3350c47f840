"""What each problem code means and what to do: the page docs/problems.md, to which every message leads."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from sampan.errors import Code

# What the codes of one prefix are about, in the order of the page.
SECTIONS = {
    "contract": "Contracts",
    "derive": "Derived files",
    "api": "APIs of partners",
    "delivery": "Deliveries",
    "record": "Records",
    "primary_key": "Keys",
    "batch": "Batches",
    "gate": "Gate",
    "quarantine": "Quarantine",
    "reload": "Reloads",
    "withdraw": "Withdrawals",
    "replay": "Replays",
    "expectations": "Expectations",
    "calendar": "Calendar",
    "lake": "The lake",
    "consent": "Consents",
    "identity": "Linkage of names",
    "build": "Builds",
    "release": "Releases",
    "report": "Pages",
    "lineage": "Lineage",
    "request": "Requests of the desks",
    "as_known": "Marts as known on an earlier date",
    "disclosure": "Suppression",
    "retention": "Retention",
    "transfer": "Transfers",
    "settings": "Settings",
    "warehouse": "Warehouse",
    "login": "Logins",
    "alert": "Alerts",
    "status": "Status page",
    "failure": "Everything else",
}
CORRECT = "Correct the contract at the line that is named, then run `sampan contracts check`."
REDELIVER = "Ask the partner to deliver the file again; new content for the same date is a new batch."
ROW = "Correct the row and replay it (`sampan quarantine replay`), or discard it with a reason."
REASON = "Repeat the command with `--reason` and a text that says why."

# Meaning and remedy of each code.
MEANINGS: dict[Code, tuple[str, str]] = {
    Code.ALERT_REASON: ("An alert is acknowledged or silenced without a reason.", REASON),
    Code.ALERT_UNKNOWN: (
        "There is no such alert, cause or message.",
        "`sampan alerts list --all` shows alerts with number and cause, and messages that were not sent.",
    ),
    Code.STATUS_PAGE: (
        "The status page cannot be written: the system's own words say why.",
        "Name a file in a folder that the user of this process may write to: `SAMPAN_STATUS_PAGE`.",
    ),
    Code.API_AWAY: (
        "The partner's API could not be reached or answered with an error that may pass.",
        "Nothing at once: the step is retried. If it lasts, look at `ops.feed_poll.problem` and write to the partner.",
    ),
    Code.API_REDIRECTED: (
        "The API redirects to another scheme, host or port than the contract's, or again and again. Nothing was asked"
        " there.",
        "Ask the API's owner. If it has moved, put the new address into the contract.",
    ),
    Code.API_REFUSED: (
        "The API rejected the request: an HTTP status from 300 to 499, or a failure message that the contract calls"
        " permanent.",
        "Read the API's message. Check the address, the parameters and `failures` of the server in the contract.",
    ),
    Code.API_SHAPE: (
        "The API's answer is not as the contract says: no list of records at `records`, no number at `total`, or pages"
        " without end.",
        "Compare an answer with `records`, `total` and `pagination` in the contract, and correct the contract.",
    ),
    Code.API_TOO_LARGE: (
        "The API returns more bytes than the contract's `maxBytes`, or reading them takes more than its"
        " `maxMemoryBytes`.",
        "Look at an answer. An API that is really so large needs higher values in its contract.",
    ),
    Code.AS_KNOWN_BASIS: (
        "Unknown basis for marts as known on an earlier date.",
        "Use `published` (default) or `--delivered`.",
    ),
    Code.AS_KNOWN_GATE: (
        "The marts that were made for the earlier date fail a critical expectation.",
        "Look at the expectations that are named in `ops.gate_result`; the schema is not shown to readers.",
    ),
    Code.AS_KNOWN_IN_USE: (
        "The schema cannot be dropped: other objects of the database depend on it.",
        "Drop the views that are named in the message, then repeat the command.",
    ),
    Code.AS_KNOWN_NOTHING: (
        "No batch that is still stored was published (or delivered) by that date.",
        "Choose a later date. Batches past their retention are deleted and cannot be shown again.",
    ),
    Code.AS_KNOWN_UNKNOWN: (
        "There is no snapshot of that date.",
        "`sampan as-known-on list` shows those that exist.",
    ),
    Code.AS_KNOWN_VIEWS: (
        "A mart is a view over an intermediate relation, so it would not survive on its own.",
        "Materialize the mart as a table in its dbt model.",
    ),
    Code.BATCH_HELD: (
        "Deliveries of the feed were held or refused; the lines of the log above list each with its own code.",
        "Follow the code of each. See [A batch is held](runbook.md#a-batch-is-held).",
    ),
    Code.BATCH_REJECTION_BUDGET: (
        "More rows broke a rule than the contract's `rejectionBudget` allows. Nothing of the batch is published.",
        "`sampan quarantine show <feed>` says which rules. Ask the partner for a corrected delivery, or accept the batch"
        " with `sampan gate <feed> --date <date> --accept <reason>`.",
    ),
    Code.BATCH_RULES: (
        "The batch as a whole fails a critical rule of its contract, for example its number of rows.",
        "Ask the partner, or accept the batch with `sampan gate <feed> --date <date> --accept <reason>`.",
    ),
    Code.BATCH_UNPROCESSABLE: (
        "The database refuses a value of the delivery although it passed all checks.",
        "This is a defect of Sampan or of the contract. Report it with the batch number; the log of PostgreSQL has the"
        " statement.",
    ),
    Code.BUILD_FAILED: (
        "dbt could not build a model of the step.",
        "See `ops.build_node where status in ('error', 'fail')` and `.sampan/dbt/logs/`. Correct the model, then run"
        " `sampan build`: it continues the open build.",
    ),
    Code.BUILD_ORDER: (
        "The step was started before the steps that it needs.",
        "Run the steps that are named first, or `sampan build` for all of them.",
    ),
    Code.BUILD_UNKNOWN_STEP: ("There is no such step.", "Choose one of the steps in the message."),
    Code.CALENDAR_CLOSURE: (
        "The day is not closed, so it cannot be reopened.",
        "Check the date and `--feed`; a closure of one feed is reopened for that feed.",
    ),
    Code.CALENDAR_REASON: ("A closure needs a reason.", REASON),
    Code.CONSENT_NOT_SUSPENDED: (
        "Nothing that the command names is suspended.",
        "`sampan consent suspended` lists what is, with the batch that it was read off.",
    ),
    Code.CONSENT_REASON: ("A revocation, or the lifting of a suspension, needs a reason.", REASON),
    Code.CONSENT_UNKNOWN: (
        "No such consent: the number is not CS and ten digits, or no delivery has contained it.",
        "Check the number. `sampan consent show` knows a consent after `cdi_consents` was published.",
    ),
    Code.CONTRACT_BUDGET: ("`rejectionBudget` is not a share from 0 to 1.", f"{CORRECT} 0.05 allows 5% of the rows."),
    Code.CONTRACT_CALENDAR: (
        "`calendar` lacks a part or has a value that is not allowed.",
        f"{CORRECT} It needs days, due, timezone, missing and empty; weekly and monthly need a day.",
    ),
    Code.CONTRACT_COLUMN: (
        "A column name is not lower snake case or is used twice, or `stagedAs` or `identifies` is not allowed.",
        CORRECT,
    ),
    Code.CONTRACT_CORRECTIONS: (
        "`corrections` has an unknown policy, or its version column is missing or does not exist.",
        f"{CORRECT} `versioned` needs a `versionColumn`; `append` and `replace_period` have none.",
    ),
    Code.CONTRACT_DRIFT: (
        "`schemaDrift` has an unknown policy or an incomplete alias.",
        f"{CORRECT} The policies are fail, note and ignore; note was add_nullable.",
    ),
    Code.CONTRACT_EXPECTATION: (
        "A rule for the batch is not a Great Expectations expectation, or names a column or table that it may not read.",
        f"{CORRECT} A query reads `{{batch}}` only.",
    ),
    Code.CONTRACT_ID: (
        "The id of the contract differs from the name of its file, or is not a valid feed name.",
        "Rename the file or the id; both are the feed's name in lower snake case.",
    ),
    Code.CONTRACT_INVALID: (
        "`sampan init` found errors in contracts and changed nothing: their rules become SQL that the loader runs.",
        "Run `sampan contracts check`, which names each error with file and line, and correct them.",
    ),
    Code.CONTRACT_KEY: (
        "The primary key is missing or incomplete: a key column is not required, has no position, or is an unbounded text.",
        f"{CORRECT} `key: [a, b]` in the table names the key columns; a text needs a pattern, an enum or a maxLength,"
        " because index entries are limited in size.",
    ),
    Code.CONTRACT_MISSING: ("A part that every contract needs is missing.", CORRECT),
    Code.CONTRACT_NONE: (
        "The folder holds no contract.",
        "Check the path; contracts are `expectations/feeds/<feed>.yaml`.",
    ),
    Code.CONTRACT_OPTION: ("A type option has no meaning for the column's type, or a bound is not a date.", CORRECT),
    Code.CONTRACT_PATTERN: (
        "A pattern is not a regular expression, counts higher than PostgreSQL can (255), or may take any time for a value, as"
        " with a reference back to a group (`\\1`) or a look ahead (`(?=...)`).",
        f"{CORRECT} Use `maxLength` for long texts.",
    ),
    Code.CONTRACT_PERSONAL_DATA: (
        "`personalData` or its pattern is not allowed.",
        f"{CORRECT} Use `drop`, `pseudonymise` or `hkid`.",
    ),
    Code.CONTRACT_PREDICATE: (
        "A row rule is not one condition in SQL, reads more than the columns of its own row and `business_date`, has a"
        " comment, or uses a function or type that is not allowed.",
        f"{CORRECT} The message lists what is allowed; add a function in `sampan.contracts.predicates` only if it cannot be"
        " made to take long or much memory.",
    ),
    Code.CONTRACT_REQUEST: ("What the contract says about an API is incomplete or contradicts itself.", CORRECT),
    Code.CONTRACT_RETENTION: (
        "The retention is missing or is not a number of days, months or years.",
        f"{CORRECT} For example `retention: 7y`.",
    ),
    Code.CONTRACT_RULE: (
        "A rule has no name, the name of another rule, or an unknown engine, metric or severity.",
        CORRECT,
    ),
    Code.CONTRACT_SCHEMA: ("A contract describes exactly one table.", "Split the contract: one feed, one table."),
    Code.CONTRACT_SERVER: (
        "A server is of an unknown type, or its location, format, encoding, compression or delimiter is not allowed.",
        CORRECT,
    ),
    Code.CONTRACT_SHAPE: (
        "A value has a form that the check did not expect, for example a text instead of a list.",
        f"{CORRECT} Compare with a contract of a similar feed.",
    ),
    Code.CONTRACT_SPAN: (
        "A field of a fixed-width record has no start and length, or overlaps the field before it.",
        CORRECT,
    ),
    Code.CONTRACT_STANDARD: (
        "The contract is not valid in the Open Data Contract Standard (ODCS) 3.2.",
        f"{CORRECT} `sampan contracts show <feed>` prints the complete ODCS document.",
    ),
    Code.CONTRACT_TYPE: ("`logicalType` is not a type that the warehouse has.", CORRECT),
    Code.CONTRACT_UNKNOWN_FEED: ("There is no contract with this name.", "`sampan contracts list` shows all feeds."),
    Code.CONTRACT_UNKNOWN_PROPERTY: ("A custom property is not known.", f"{CORRECT} Check its spelling."),
    Code.CONTRACT_UNREADABLE: ("The contract file cannot be read.", "Check the path and its permissions."),
    Code.CONTRACT_YAML: ("The file is not YAML, or a key is in it twice.", CORRECT),
    Code.DELIVERY_CORRUPT: ("The file is not of the format or compression that the contract names.", REDELIVER),
    Code.DELIVERY_DENIED: (
        "The object is listed in the drop prefix, but the object store does not give it; the message has its answer.",
        "Give the loader the right to read it (`sampan contracts policy`), or ask the partner to deliver it again without a"
        " key or lock of its own. The next `sampan ingest` tries again.",
    ),
    Code.DELIVERY_EMPTY: ("The file has no data at all.", REDELIVER),
    Code.DELIVERY_FUTURE_DATE: (
        "The business date in the path is in the future.",
        "Nothing if the date is right: the delivery is taken in on that day. Otherwise ask the partner to deliver it under"
        " the right date.",
    ),
    Code.DELIVERY_GONE: (
        "The file was removed from the drop prefix before it was copied.",
        "Ask the partner whether it was withdrawn; a file that is there again is taken in.",
    ),
    Code.DELIVERY_HEADER_MISSING_COLUMN: (
        "The header lacks a column that the contract requires; in JSON Lines, no record has its key.",
        f"{REDELIVER} If the partner renamed the column, add an alias under `schemaDrift` in the contract.",
    ),
    Code.DELIVERY_HEADER_PERSONAL_DATA: (
        "A column with personal data is missing and an unknown one is there: it may be the same under another name, so"
        " the batch is held. In JSON Lines a column is missing when no record has its key.",
        "Ask the partner. Add an alias, or the new column with its `personalData`, to the contract.",
    ),
    Code.DELIVERY_HEADER_REPEATED: ("Two columns have the same header.", REDELIVER),
    Code.DELIVERY_HEADER_UNKNOWN_COLUMN: (
        "The delivery has a column that is not in the contract, whose drift policy is `fail`.",
        "Ask the partner. Add the column to the contract or choose another `schemaDrift` policy, then load the batch again"
        " with `sampan load <feed> --retry-held`.",
    ),
    Code.DELIVERY_HEADER_UNREADABLE: ("The header line is not CSV.", REDELIVER),
    Code.DELIVERY_HEADER_UNRECOGNISED: (
        "The header has no column of this feed, or too many that are unknown: probably the file of another feed.",
        REDELIVER,
    ),
    Code.DELIVERY_KEY: (
        "The key of an object in the drop prefix has a character that PostgreSQL cannot store, such as NUL. The ledger shows"
        " the key percent-encoded.",
        "Let the partner remove the object and deliver it under another name. Retention cannot delete it.",
    ),
    Code.DELIVERY_MARKER: (
        "The name is that of a marker, a checksum, an unfinished upload or a file of a program, so it is not a delivery:"
        " it is ignored, and retention deletes it.",
        "Nothing, where the partner's data is there beside it. If it is data, have it delivered under a name that ends"
        " as the feed's deliveries do. The names are listed in `sampan.ingest.markers`.",
    ),
    Code.DELIVERY_NO_BUSINESS_DATE: (
        "The path of the file has no business date.",
        "Deliver it under `<partner>/<feed>/<YYYY-MM-DD>/<name>`.",
    ),
    Code.DELIVERY_NO_FEED: (
        "The file lies beside the folders of the partner's feeds, where nothing is taken in.",
        "Deliver it under `<partner>/<feed>/<YYYY-MM-DD>/<name>`. Retention deletes the file that is there.",
    ),
    Code.DELIVERY_NO_ROWS: (
        "The delivery has a header but no rows, and the contract says `empty: hold`.",
        f"{REDELIVER} If nothing happened that day, `sampan calendar close <date> --feed <feed>` says so.",
    ),
    Code.DELIVERY_OTHER_FORMAT: (
        "The first bytes are those of another format or compression than the contract's; the message names it.",
        "Ask the partner to send it in the contract's format. If it has changed for good, change the contract.",
    ),
    Code.DELIVERY_PAST_RETENTION: (
        "The business date is older than the contract's retention, or this content was deleted when its retention ended.",
        "Nothing: it is not taken in and the next retention run deletes it. Check the date if it should be newer.",
    ),
    Code.DELIVERY_RECORD_TOO_LONG: (
        "A line is longer than any record can be; a quote is probably not closed, or the file has no line breaks.",
        REDELIVER,
    ),
    Code.DELIVERY_SHEET_MISSING: (
        "The workbook has no sheet of the contract's name.",
        f"{REDELIVER} If the sheet was renamed, correct `sheet` in the contract.",
    ),
    Code.DELIVERY_SHEET_SECOND: (
        "Another sheet of the workbook has the same headers and rows: only one sheet is read, so they would be lost.",
        f"{REDELIVER} All rows belong on one sheet.",
    ),
    Code.DELIVERY_TOO_LARGE: (
        "The file unpacks to more than is allowed, or reading it takes more memory than is allowed or ends its process.",
        "Check that the file is genuine. A feed that is really so large needs a higher `maxBytes` or `maxMemoryBytes` in"
        " its contract.",
    ),
    Code.DELIVERY_TOO_SLOW: (
        "Reading the file takes longer than is allowed.",
        "Check that the file is genuine. A feed that is really so slow to read needs a higher `maxSeconds` in its contract.",
    ),
    Code.DELIVERY_TRUNCATED: ("The compressed file ends too early.", REDELIVER),
    Code.DERIVE_STALE: (
        "A generated file differs from what the contracts and models say, or belongs to a feed that is gone.",
        "Run `sampan contracts derive` and commit the result.",
    ),
    Code.DISCLOSURE_UNPROTECTED: (
        "A cell of a published table cannot be protected because it is not part of the table's sums.",
        "This is a defect of the model `int_published__cells`: every cell needs the sums of its row and column.",
    ),
    Code.EXPECTATIONS_MART: (
        "The mart that an expectations file names is not the file's name.",
        "Rename the file or `mart`: `expectations/marts/<mart>.yaml`.",
    ),
    Code.EXPECTATIONS_RULE: (
        "An expectation of a mart lacks a part or has an unknown severity.",
        "Correct the file that is named: a rule has name, severity, description and implementation.",
    ),
    Code.FAILURE: ("A failure without a code of its own.", "The message says what happened."),
    Code.GATE_ACCEPT: (
        "The batch cannot be accepted: none is held for that date, or it was never read into rows.",
        "`sampan status` shows what is held. A delivery that could not be read has to be delivered again.",
    ),
    Code.GATE_CANNOT_EVALUATE: (
        "The expectations could not be evaluated at all.",
        "See the log for the error; check the columns and types that the expectations name.",
    ),
    Code.GATE_EXPECTATION: (
        "An expectation is not valid: its type or its arguments are refused by Great Expectations.",
        "Correct the rule that is named, in the contract or in `expectations/marts/`.",
    ),
    Code.GATE_REASON: ("Accepting a held batch needs a reason.", "Repeat the command with `--accept <reason>`."),
    Code.IDENTITY_REASON: ("A decision about a link needs a reason.", REASON),
    Code.IDENTITY_REVIEW: ("There is no proposal with this number.", "`sampan identity review list` shows all."),
    Code.IDENTITY_UNKNOWN: (
        "No feed has named this entity.",
        "Check source and key: a shop is `shop <platform>:<store_id>`. The entity is known after its feed was built.",
    ),
    Code.IDENTITY_VERDICT: ("The verdict is not `same` or `different`.", "Use one of the two."),
    Code.PRIMARY_KEY_CONTRADICTING_ROWS: (
        "Several rows of the delivery have the same key and different values, so none of them can be trusted.",
        f"Ask the partner which one is right. {ROW}",
    ),
    Code.QUARANTINE_COLUMNS: (
        "The corrected file lacks the column `quarantine_id`, or has columns that are not in the contract.",
        "Start from `sampan quarantine show <feed> --csv` and keep its header.",
    ),
    Code.QUARANTINE_DISCARD: (
        "No rows were named to discard.",
        "Give their ids: `sampan quarantine discard <feed> 17 18`.",
    ),
    Code.QUARANTINE_HELD: (
        "The replay was held by the gate like any delivery; the message says why.",
        "Correct the rows again, or accept the replay's batch.",
    ),
    Code.QUARANTINE_ID: (
        "An id in the corrected file is not a number, is a duplicate, or is not an open row of the feed.",
        "Start from `sampan quarantine show <feed> --csv` and keep the ids.",
    ),
    Code.QUARANTINE_INCOMPLETE: (
        "Rows that broke a rule were not found when the delivery was read a second time.",
        "This is a defect of Sampan: report it with the batch number. Nothing was published.",
    ),
    Code.QUARANTINE_NOTHING_TO_REPLAY: (
        "No open row of the feed can be replayed.",
        "`sampan quarantine list` shows the states. A record that could not be split into fields needs `--file`.",
    ),
    Code.QUARANTINE_PSEUDONYM: (
        "The corrected file has a pseudonym, which would make the row another person's.",
        "Write the person's number, or leave `[pseudonym]` as it was exported.",
    ),
    Code.QUARANTINE_REASON: ("Discarding rows needs a reason.", REASON),
    Code.QUARANTINE_UNDER_WAY: (
        "A replay of one of these rows has started and not finished.",
        "Run `sampan ingest <feed>` to finish it, then repeat the command.",
    ),
    Code.QUARANTINE_UNREADABLE: ("The corrected file cannot be read as CSV in UTF-8.", "Save it as CSV in UTF-8."),
    Code.RECORD_BAD_QUOTE: ("A quote in the record is not written as CSV requires.", ROW),
    Code.RECORD_DUPLICATE_KEY: ("An object of the record has a key twice: which value is right is not known.", ROW),
    Code.RECORD_ENCODING: ("The record has bytes that are not text in the contract's encoding.", ROW),
    Code.RECORD_NOT_AN_OBJECT: ("The line is JSON, but not an object.", ROW),
    Code.RECORD_NOT_JSON: ("The line is not JSON.", ROW),
    Code.RECORD_NUL: ("The record has a NUL character, which PostgreSQL cannot store.", ROW),
    Code.RECORD_TOO_FEW_FIELDS: ("The record has fewer fields than the header.", ROW),
    Code.RECORD_TOO_LONG: ("The fixed-width record is longer than its fields.", ROW),
    Code.RECORD_TOO_MANY_FIELDS: ("The record has more fields than the header.", ROW),
    Code.RECORD_TOO_SHORT: ("The fixed-width record is shorter than its fields.", ROW),
    Code.RECORD_UNCLOSED_QUOTE: ("A quote is opened in the record and never closed.", ROW),
    Code.RELEASE_EXPECTATIONS: (
        "A mart has no expectations, or expectations name a mart that was not built.",
        "Add or remove the file in `expectations/marts/`: each mart has one.",
    ),
    Code.RELEASE_FINDING: (
        "There is no such finding to decide on: the newest gate found the rule met, or did not check that mart.",
        "`sampan release findings` lists those that there are.",
    ),
    Code.RELEASE_GATE: (
        "The build fails a critical expectation, or was not checked since it changed. The marts of that family wait, or,"
        " where others rest on them, readers keep the release that they have.",
        "See `sampan release findings`. Correct the model or the data, withdraw the batch (`sampan withdraw`), or accept the"
        " finding (`sampan release accept`); then run `sampan refresh --force`.",
    ),
    Code.RELEASE_GRANTS: (
        "The reader role lacks expected rights on the relations that are named.",
        "Run `sampan init --force`, then `sampan release run`.",
    ),
    Code.RELEASE_NOT_BUILT: ("The open build is not complete.", "Run `sampan build`, then `sampan release run`."),
    Code.RELEASE_REASON: ("A decision on a finding needs a reason.", REASON),
    Code.RELEASE_REVISION: (
        "No published table that a release has shown has this month, so there is nothing to publish again.",
        "See which months there are: `select distinct movement_month from marts.mart_published_exports`.",
    ),
    Code.RELEASE_ROW_SECURITY: (
        "Row-level security is not forced on a mart that holds data under consents.",
        "Check the model's `read_under_consent` hook; the release was not shown.",
    ),
    Code.RELEASE_UNKNOWN: (
        "There is no such release, or it is no longer kept.",
        "`sampan release list` shows those that are.",
    ),
    Code.RELOAD_REFUSED: (
        "Delivered values of a column that the contract gained break its type or a rule. Nothing of the batch was changed.",
        "Widen the rule or make the column optional, then run `sampan reload <feed>` again. A column of another type needs"
        " another name.",
    ),
    Code.REPLAY_DECIDED: (
        "Rows of the replay were discarded or published by someone else before it was published.",
        "`sampan quarantine list` shows what is still open; replay that.",
    ),
    Code.LINEAGE_REFUSED: (
        "The receiver of OpenLineage events refuses them.",
        "Look at its answer's code: 401 and 403 ask for another key (`OPENLINEAGE_API_KEY`), 404 for another address"
        " (`OPENLINEAGE_URL`, `OPENLINEAGE_ENDPOINT`). Then run `sampan lineage send` again.",
    ),
    Code.REPORT_COLUMN: (
        "No mart has a column of this name, or nothing is known of what the mart is made from.",
        "Write it as `mart.column`. The data dictionary has all names.",
    ),
    Code.REPORT_QUERY: (
        "The query of a question failed in a release. The release is not affected: only the pages of these questions have no"
        " answer.",
        "Correct the query in `plugins/sampan/report/questions`, or the mart that it reads. Then run `sampan report"
        " --force`.",
    ),
    Code.REQUEST_NOT_ALLOWED: (
        "Who asked at a desk has lost the role, or the login, between asking and the run. Nothing was changed.",
        "Someone who has the role asks again.",
    ),
    Code.REQUEST_NOT_ASKED: (
        "A decision names a request that does not wait for one: it was decided before, or there is no such request.",
        "`sampan requests list` shows the requests and what became of them.",
    ),
    Code.REQUEST_OWN: (
        "Who asked for corrections accepted them as an operator. Corrections are accepted by another person. Nothing was"
        " changed: the request still waits.",
        "Another operator decides. Who asked may refuse the request.",
    ),
    Code.REQUEST_SUBJECT: (
        "A request does not say what it is about, so it was not written by a desk. Nothing was changed.",
        "Ask at the desk, or with the command.",
    ),
    Code.LAKE_REFUSED: (
        "The object store does not let the loader read or write the bucket of the lake.",
        "Make the bucket (`SAMPAN_LAKE_BUCKET`) and give the loader's user the rights that `sampan contracts policy` prints,"
        " or set `SAMPAN_LAKE=off`. Then run `sampan lake sync`.",
    ),
    Code.LAKE_VALUE: (
        "A value of a published batch does not fit the type that its column has in the lake: 38 digits, or years 1 to 9999."
        " The batch is in raw, and not in the lake.",
        "Say in the contract which values the column may have (`maximum`, `scale`), withdraw the batch if the value is"
        " wrong, and ask the partner for another delivery.",
    ),
    Code.RETENTION_ENDED: (
        "The batch was deleted at the end of its retention before it was published.",
        "Nothing. If that was wrong, check `retention` in the contract.",
    ),
    Code.RETENTION_IN_USE: (
        "A release is past its retention and was not deleted: a session still reads it, or a view of somebody depends on it.",
        "End the session that is named (`select pg_terminate_backend(<number>)` as the administrator), or drop the view,"
        " then run `sampan retention run`. A session that does nothing in an open transaction is ended after 10 minutes,"
        " unless it lifted that limit: then ask its owner, or `sampan roles drop-login`.",
    ),
    Code.RETENTION_MOST: (
        "The run would delete most of a feed's batches at once, so it deleted none of them.",
        "Check `retention` in the contract. If it is right, run `sampan retention run --allow-mass-delete`.",
    ),
    Code.SETTINGS_ENGINE: (
        "SAMPAN_BUILD_ENGINE names no engine, or Spark, which is not installed.",
        "set it to postgres, duckdb or, after `make spark`, spark; or leave it out (see [installation](installation.md)).",
    ),
    Code.SETTINGS_LAKE: (
        "SAMPAN_LAKE is neither on nor off.",
        "Set it to one of them, or leave it out: it is on then.",
    ),
    Code.SETTINGS_MISSING: (
        "A setting is missing.",
        "`make up` writes the settings of a local stack; elsewhere set the variable that is named"
        " (see [installation](installation.md)).",
    ),
    Code.SETTINGS_PSEUDONYM_KEY: (
        "A key for pseudonyms is missing, too short, or another one than the warehouse knows under that version.",
        "Set it to at least 64 hexadecimal digits; `openssl rand -hex 32` makes one. Keep it: another key gives other"
        " pseudonyms. To replace it, give the new one a new version (see [rotate a key](security.md#rotate-a-key)).",
    ),
    Code.TRANSFER_CONTRACT: (
        "A value of the transfer agreement is not allowed; the message names the constraint.",
        "Check dates, city, purpose and marts of the agreement.",
    ),
    Code.TRANSFER_CONTRACT_TAKEN: (
        "An agreement with this number is already registered, with other terms.",
        "Agreements are not changed: register a new one under a new number.",
    ),
    Code.TRANSFER_FILED: (
        "The filing date is in the future, or another one is already registered.",
        "Record the filing on or after the day it was made; it cannot be changed.",
    ),
    Code.TRANSFER_NO_CONTRACT: (
        "No agreement with this number is registered.",
        "`sampan transfer list` shows what left under which; register the agreement with `sampan transfer agreement`.",
    ),
    Code.TRANSFER_NO_MART: (
        "The live release has no such mart.",
        "Check the name; `sampan release list` shows the release.",
    ),
    Code.TRANSFER_OLD_RELEASE: (
        "The live release was made by an older version and does not say which consents its rows depend on.",
        "Run `sampan build --force` and `sampan release run`, then share again.",
    ),
    Code.TRANSFER_REFUSED: (
        "No valid agreement covers this transfer; the message lists everything that is missing.",
        "Register an agreement that covers it, or do not share.",
    ),
    Code.TRANSFER_TARGET: (
        "The target cannot be written, or already exists.",
        "Name a new file in a folder or bucket that may be written.",
    ),
    Code.LOGIN_NAME: (
        "The name cannot be that of a person's login, is taken, or belongs to a role that is not a reader.",
        "Choose another name; `sampan roles list` shows the logins that exist.",
    ),
    Code.LOGIN_ROLE: (
        "There is no such role to read with.",
        "Choose one of the roles in the message. A bank's role exists from the first consent that names the bank.",
    ),
    Code.WAREHOUSE_LATER: (
        "A later version of the platform made the warehouse what it is.",
        "Install that version, or restore the warehouse to before its upgrade.",
    ),
    Code.WAREHOUSE_REFUSED: (
        "The database rejected the login or does not exist.",
        "Check `SAMPAN_WAREHOUSE_DSN` and the role's password; `sampan init` prepares the warehouse.",
    ),
    Code.WAREHOUSE_SCHEMA_OWNER: (
        "A schema of the platform belongs to another role, which could drop or replace what is in it.",
        "See who made it and what is in it; rename it or drop it, then run `sampan init`.",
    ),
    Code.WAREHOUSE_SERVER: (
        "The server is older than PostgreSQL 16, or the database has another encoding than UTF8.",
        "Upgrade the server, or create another database: `create database sampan encoding 'UTF8' template template0`.",
    ),
    Code.WITHDRAW_DECIDED: (
        "The withdrawal of a replay cannot be undone: its rows were replayed again, discarded or withdrawn meanwhile.",
        "Look at them in `quarantine.record`: `state`, `resolved_by_batch_id`. Undo the withdrawal of its batch first.",
    ),
    Code.WITHDRAW_NOTHING: (
        "No published batch is chosen, or for `--undo` no withdrawn one. What is held was never published.",
        "The message says in which state the batches are; `ops.batch` has all of a feed.",
    ),
    Code.WITHDRAW_REASON: ("A withdrawal, or its undoing, needs a reason.", REASON),
}
# What a row rule of a column means; the rule of a row is `<column>.<kind>`.
COLUMN_RULES = {
    "type": "The value is not of the column's type.",
    "required": "The value is missing.",
    "enum": "The value is not one of the contract's list.",
    "pattern": "The value does not match the contract's pattern.",
    "min_length": "The text is shorter than the contract allows.",
    "max_length": "The text is longer than the contract allows.",
    "minimum": "The value is below the contract's minimum.",
    "maximum": "The value is above the contract's maximum.",
    "finite": "The number is NaN or infinite.",
    "scale": "The number has more decimals than the contract allows.",
}


def problems_page() -> str:
    """The page: every code, and every kind of row rule, with its meaning and what to do."""
    lines = [
        "<!-- Generated from plugins/sampan/problems.py by `sampan contracts derive`; edit that, not this. -->",
        "# Problems: what a code means and what to do",
        "",
        "A message ends with its code in brackets, as in `[contract.pattern]`. The ledger keeps it in `problem ->> 'rule'`,",
        "and a row in quarantine has its codes in `broken_rules`.",
        "",
    ]
    for prefix, title in SECTIONS.items():
        lines += [f"## {title}", ""]
        for code, (meaning, remedy) in MEANINGS.items():
            if code.partition(".")[0] == prefix:
                lines += _entry(code, meaning, remedy)
    lines += ["## Rules of a column", "", f"Each puts a row into quarantine. {ROW}", ""]
    for kind, meaning in COLUMN_RULES.items():
        lines += [f"### <column>.{kind}".replace("<", "\\<"), "", meaning, ""]
    lines += [
        "## Rules of a contract",
        "",
        _wrapped(
            "A code without a dot is a rule that the contract names itself, under `quality`, where its `description` says"
            f" what it means. {ROW} A rule about the whole batch does not reject rows: see `batch.rules`."
        ),
        "",
    ]
    return "\n".join(lines).rstrip() + "\n"


def _entry(code: str, meaning: str, remedy: str) -> Iterable[str]:
    return (f"### {code}", "", _wrapped(meaning), "", _wrapped(f"What to do: {remedy}"), "")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)
