-- The ledger: every delivery and what happened to it.
create table if not exists ops.batch (
    batch_id bigint generated always as identity primary key,
    feed text not null,
    business_date date not null,
    content_sha256 text not null check (content_sha256 ~ '^[0-9a-f]{64}$'),
    origin text not null default 'delivery' check (origin in ('delivery', 'replay')),
    replays bigint references ops.batch,
    source_uri text not null,
    landing_uri text not null,
    bytes bigint not null check (bytes >= 0),
    received_at timestamptz not null,
    contract_version text not null,
    state text not null default 'landed' check (state in ('landed', 'loaded', 'gated', 'published', 'held')),
    token bigint not null default 0,
    rows_in bigint,
    rows_published bigint,
    rows_quarantined bigint,
    rows_duplicate bigint,
    rows_held bigint,
    landed_at timestamptz not null default clock_timestamp(),
    loaded_at timestamptz,
    row_rules_at timestamptz,
    gated_at timestamptz,
    published_at timestamptz,
    held_at timestamptz,
    deleted_at timestamptz,
    problem jsonb,
    unique (feed, business_date, content_sha256),
    constraint replay_has_a_source check ((origin = 'replay') = (replays is not null)),
    constraint rows_add_up check (rows_in = rows_published + rows_quarantined + rows_duplicate),
    constraint held_has_a_reason check (state <> 'held' or problem is not null)
);
alter table ops.batch add column if not exists proven_rules_sha256 text;
alter table ops.batch add column if not exists row_rules_at timestamptz;
alter table ops.batch add column if not exists replays bigint references ops.batch;
alter table ops.batch drop constraint if exists replay_has_a_source;
alter table ops.batch add constraint replay_has_a_source check ((origin = 'replay') = (replays is not null));
-- rows_add_up would accept counts that are null.
alter table ops.batch drop constraint if exists published_is_counted;
alter table ops.batch add constraint published_is_counted
check (state not in ('published', 'withdrawn') or num_nulls(rows_in, rows_published, rows_quarantined, rows_duplicate) = 0);
alter table ops.batch drop constraint if exists batch_state_check;
alter table ops.batch add constraint batch_state_check
check (state in ('landed', 'loaded', 'gated', 'published', 'held', 'withdrawn'));
alter table ops.batch add column if not exists returned_at timestamptz;
alter table ops.batch add column if not exists counts_from timestamptz
generated always as (greatest(received_at, returned_at)) stored;
alter table ops.batch add column if not exists rejected_at timestamptz;
alter table ops.batch add column if not exists rejected_by text;
alter table ops.batch add column if not exists rejected_because text;
alter table ops.batch drop constraint if exists rejected_with_reason;
alter table ops.batch add constraint rejected_with_reason
check (num_nonnulls(rejected_at, rejected_by, rejected_because) in (0, 3) and (rejected_at is null or state = 'held'));
create index if not exists batch_by_state on ops.batch (feed, state);
comment on table ops.batch is 'One row per feed, business date and content of a delivery: its state, and how many rows it brought.';
comment on column ops.batch.source_uri is 'Where it was delivered, personal numbers replaced; without the name of the file once retention has deleted it.';
comment on column ops.batch.rows_in is 'Records in the delivery; null until it is loaded and while it is held.';
comment on column ops.batch.rows_held is 'Records in a held batch; null when the delivery could not be read.';
comment on column ops.batch.received_at is 'When the partner delivered it. For a replay: when the delivery arrived whose rows it replays.';
comment on column ops.batch.state is 'How far it has come. withdrawn: it was published, and a person has taken it out of what counts; ops.withdrawal says why.';
comment on column ops.batch.returned_at is 'When the partner delivered the same content again after another delivery of the same date: its rollback.';
comment on column ops.batch.counts_from is 'The time by which it is newer or older than other deliveries: when it was received, or delivered again as a rollback.';
comment on column ops.batch.rejected_at is 'When a person rejected the held batch: it is not an open problem any more, and its date waits for another delivery.';
comment on column ops.batch.replays is 'Batch whose quarantined rows this replay sends through the gate again; null for a delivery.';
comment on column ops.batch.proven_rules_sha256 is 'SHA-256 of the line pattern that every line matched when it was loaded: it proves rules that the gate then skips. Null when lines did not match.';
comment on column ops.batch.token is 'Fencing token: every claim raises it; a write with an older token is refused.';

create table if not exists ops.withdrawal (
    withdrawal_id bigint generated always as identity primary key,
    batch_id bigint not null references ops.batch,
    because_of bigint references ops.withdrawal,
    reason text not null check (reason <> ''),
    withdrawn_by text not null,
    withdrawn_at timestamptz not null default clock_timestamp(),
    undone_at timestamptz,
    undone_by text,
    undone_because text,
    constraint undone_with_reason check (num_nonnulls(undone_at, undone_by, undone_because) in (0, 3))
);
create unique index if not exists withdrawal_lasts_once on ops.withdrawal (batch_id) where undone_at is null;
comment on table ops.withdrawal is 'Published batches that a person took out of what counts, who, when and why, and whether it was undone. Rows are never deleted.';
comment on column ops.withdrawal.because_of is 'The withdrawal of the delivery whose quarantined rows this batch replayed: it stands or falls with it.';

create table if not exists ops.delivery (
    source_uri text not null,
    etag text not null,
    feed text not null,
    business_date date,
    received_at timestamptz not null,
    bytes bigint not null,
    seen_at timestamptz not null default clock_timestamp(),
    batch_id bigint references ops.batch,
    problem jsonb,
    primary key (source_uri, etag)
);
alter table ops.delivery add column if not exists deleted_at timestamptz;
alter table ops.delivery add column if not exists refused_at timestamptz;
create index if not exists delivery_waiting on ops.delivery (feed) where batch_id is null and problem is null;
comment on table ops.delivery is 'One row per object seen in a drop prefix. Objects with the same content share one batch.';
comment on column ops.delivery.refused_at is 'When the land step refused it, which may be later than seen_at.';
comment on column ops.delivery.source_uri is 'Address of the object, needed to fetch and to delete it: the only place with the file''s name as the partner wrote it. Without the name once retention has deleted it.';
comment on column ops.delivery.deleted_at is 'When retention deleted the object. An object seen under the same name after that is a new delivery.';

create table if not exists ops.drift (
    drift_id bigint generated always as identity primary key,
    batch_id bigint not null references ops.batch,
    kind text not null check (kind in ('renamed', 'missing', 'unknown')),
    column_name text not null,
    detail text,
    seen_at timestamptz not null default clock_timestamp(),
    data_type text,
    filled bigint,
    unique (batch_id, kind, column_name)
);
alter table ops.drift add column if not exists data_type text;
alter table ops.drift add column if not exists filled bigint;
-- Earlier versions stored unknown columns under a name of their own (added) or left them out (ignored).
alter table ops.drift drop constraint if exists drift_kind_check;
update ops.drift set kind = 'unknown', column_name = regexp_replace(column_name, '^x_', '') where kind in ('added', 'ignored');
alter table ops.drift add constraint drift_kind_check check (kind in ('renamed', 'missing', 'unknown'));
comment on table ops.drift is 'Differences between the columns of a delivery and its contract. Values of unknown columns are not stored.';
comment on column ops.drift.detail is 'Header in the delivery of a renamed or unknown column, quoted, without personal numbers.';
comment on column ops.drift.data_type is 'Narrowest type that all values of an unknown column have, or those that were looked at in a minute, in the words of a contract.';
comment on column ops.drift.filled is 'How many records have a value in an unknown column; null where the drift policy is ignore, or where counting them would take longer than a minute.';

create table if not exists ops.alert (
    alert_id bigint generated always as identity primary key,
    kind text not null,
    feed text,
    message text not null,
    raised_at timestamptz not null default clock_timestamp()
);
alter table ops.alert add column if not exists severity text not null default 'warning'
check (severity in ('critical', 'warning', 'info'));
alter table ops.alert add column if not exists cause text;
alter table ops.alert add column if not exists sent_at timestamptz;
alter table ops.alert add column if not exists ended_at timestamptz;
alter table ops.alert add column if not exists acknowledged_at timestamptz;
alter table ops.alert add column if not exists acknowledged_by text;
alter table ops.alert add column if not exists acknowledged_because text;
alter table ops.alert add column if not exists silenced_until timestamptz;
create index if not exists alert_by_cause on ops.alert (cause, alert_id);
comment on table ops.alert is 'What somebody has to know, raised with ops.raise_alert. `sampan alerts` lists and sends it.';
comment on column ops.alert.severity is 'critical: figures are missing or wrong until somebody acts. warning: somebody should look. info: it is told, nothing is to be done.';
comment on column ops.alert.cause is 'What alerts of one cause have in common: kind and feed, or kind and step of the build. They are sent together, and silenced together.';
comment on column ops.alert.sent_at is 'When a channel took the first message with it; null while it waits, is silenced, or has no channel.';
comment on column ops.alert.ended_at is 'When the state that it tells of was over (kinds held, late_here, late_at_partner, carried, failed); null while it lasts.';
comment on column ops.alert.silenced_until is 'Nothing of its cause is sent before this time. Later alerts of the cause inherit it.';

create or replace function ops.alert_severity(kind text) returns text
language sql immutable
return case
    when kind in ('held', 'rejected', 'late_here', 'carried', 'failed', 'deadline', 'hkid_guesses', 'retention', 'unsent')
        then 'critical'
    when kind in ('withdrawn', 'recovered') then 'info'
    else 'warning'
end;
comment on function ops.alert_severity is 'Severity of the alerts of a kind.';

update ops.alert set cause = kind || coalesce(':' || feed, ''), severity = ops.alert_severity(kind) where cause is null;
alter table ops.alert alter column cause set not null;

create or replace function ops.raise_alert(kind text, feed text, message text, cause text default null) returns bigint
language sql set search_path = pg_catalog, pg_temp as $$
    insert into ops.alert (kind, feed, message, severity, cause, silenced_until)
    select
        $1,
        $2,
        left($3, 4000),
        ops.alert_severity($1),
        named.cause,
        (select max(earlier.silenced_until) from ops.alert as earlier where earlier.cause = named.cause)
    from (select coalesce($4, $1 || coalesce(':' || $2, '')) as cause) as named
    returning alert_id
$$;
comment on function ops.raise_alert is
'The only way to raise an alert. A message is cut to 4,000 characters; without a cause it is that of its kind and feed.';

create table if not exists ops.alert_silence (
    silence_id bigint generated always as identity primary key,
    cause text not null,
    silenced_until timestamptz not null,
    reason text not null check (reason <> ''),
    decided_by text not null,
    decided_at timestamptz not null default clock_timestamp()
);
comment on table ops.alert_silence is 'Who silenced a cause of alerts until when, and why. Rows are never deleted.';

create table if not exists ops.alert_message (
    message_id bigint generated always as identity primary key,
    idempotency_key uuid not null unique,
    channel text not null,
    recipient text not null,
    alert_ids bigint[] not null check (cardinality(alert_ids) > 0),
    subject text not null,
    body text,
    state text not null default 'waiting' check (state in ('waiting', 'sending', 'sent', 'failed', 'unknown')),
    attempts integer not null default 0,
    made_at timestamptz not null default clock_timestamp(),
    claimed_at timestamptz,
    ended_at timestamptz,
    problem text
);
comment on table ops.alert_message is 'One row per message and channel: which alerts it tells of, to whom, and whether the channel took it.';
comment on column ops.alert_message.body is 'Null once it was sent, and a week after it was made: it may name files that retention deletes.';
comment on column ops.alert_message.channel is 'operators/<n>: the n-th address of SAMPAN_NOTIFY_OPERATORS; partners: SAMPAN_NOTIFY_PARTNERS. The addresses hold secrets and are not stored.';
comment on column ops.alert_message.state is 'sending: claimed by a sender. failed: the channel did not take it; it is tried again, five times in all. unknown: its sender died while it was sending; it may or may not have arrived, and is never sent again automatically.';
comment on column ops.alert_message.idempotency_key is 'The same in each attempt: header Idempotency-Key of mails and webhooks, and the last line of the text.';

create table if not exists quarantine.record (
    quarantine_id bigint generated always as identity,
    feed text not null,
    batch_id bigint not null references ops.batch,
    line bigint not null,
    broken_rules text[] not null check (cardinality(broken_rules) > 0),
    record text not null,
    fields jsonb,
    state text not null default 'open' check (state in ('open', 'resolved', 'discarded')),
    resolved_by_batch_id bigint references ops.batch,
    decided_by text,
    decided_at timestamptz,
    reason text,
    quarantined_at timestamptz not null default clock_timestamp(),
    primary key (feed, quarantine_id),
    unique (feed, batch_id, line)
) partition by list (feed);
do $$ begin
    if not exists (
        select from pg_constraint
        where conrelid = 'quarantine.record'::regclass and conname = 'record_state_check'
            and pg_get_constraintdef(oid) like '%withdrawn%'
    ) then
        alter table quarantine.record drop constraint record_state_check;
        alter table quarantine.record add constraint record_state_check
        check (state in ('open', 'resolved', 'discarded', 'withdrawn'));
    end if;
end $$;
comment on column quarantine.record.state is 'withdrawn: it was open when its batch was withdrawn.';
comment on table quarantine.record is 'Rows that broke a rule, verbatim except for personal data, with every rule they broke.';
comment on column quarantine.record.line is 'Line of the delivery where the record begins.';
comment on column quarantine.record.fields is 'The record by column of the contract, as text; null when it could not be split into fields.';

create table if not exists ops.replay_line (
    batch_id bigint not null references ops.batch,
    line bigint not null,
    feed text not null,
    quarantine_id bigint not null,
    primary key (batch_id, line),
    foreign key (feed, quarantine_id) references quarantine.record
);
comment on table ops.replay_line is 'Which quarantined record each line of a replay comes from.';
