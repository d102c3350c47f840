-- The current state of consents, read by the row-level policies on what banks see.
create table if not exists ops.consent (
    consent_id text primary key,
    status text not null,
    status_at timestamptz not null,
    is_revoked boolean not null,
    taken_in_at timestamptz not null default clock_timestamp()
);
comment on table ops.consent is 'One row per consent: its status according to the feed cdi_consents, updated when a batch is published.';
comment on column ops.consent.status is 'Last status in the feed.';
comment on column ops.consent.is_revoked is 'Whether any delivery of the feed contained a revocation. No later change or correction makes the consent valid again.';

-- Earlier versions kept one set of terms per consent in ops.consent. The batches are taken in again below.
do $$ begin
    if to_regclass('ops.consent_change') is null and to_regclass('ops.consent_batch') is not null then
        delete from ops.consent_batch;
        alter table ops.consent drop column brn, drop column bank_id, drop column provider, drop column purpose,
            drop column scopes, drop column valid_from, drop column valid_to;
    end if;
end $$;

-- Earlier versions let a newer delivery of a change undo a revocation, and an identifier move to another enterprise. The
-- batches are taken in again below.
do $$ begin
    if to_regclass('ops.consent_suspension') is null and to_regclass('ops.consent_batch') is not null then
        delete from ops.consent_batch;
    end if;
end $$;

create table if not exists ops.consent_change (
    consent_id text references ops.consent on delete cascade,
    status_at timestamptz,
    status text not null,
    brn text not null,
    bank_id text not null check (bank_id ~ '^B[0-9]{3}$'),
    provider text not null,
    purpose text not null,
    scopes text[] not null,
    valid_from date not null,
    valid_to date not null,
    primary key (consent_id, status_at)
);
create index if not exists consent_change_by_bank on ops.consent_change (bank_id);
comment on table ops.consent_change is 'One row per change of a consent in the feed, after corrections, with the terms of that change.';

-- Which terms apply depends on the day, so they are chosen at query time. An expiry ends the term that it names by its first and
-- last day; one that names no other term of the consent ends the one that applies. int_consents__current has the same rules.
create or replace view ops.consent_now as
select
    c.consent_id,
    t.brn,
    t.bank_id,
    t.provider,
    t.purpose,
    t.scopes,
    t.valid_from,
    t.valid_to,
    c.status,
    c.status_at,
    c.is_revoked,
    t.status not in ('granted', 'renewed') or exists (
        select from ops.consent_change as e
        where e.consent_id = c.consent_id and e.status = 'expired' and e.status_at > t.status_at
            and not exists (
                select from ops.consent_change as g
                where g.consent_id = c.consent_id and g.status in ('granted', 'renewed')
                    and (g.valid_from, g.valid_to) = (e.valid_from, e.valid_to)
                    and (g.valid_from, g.valid_to) <> (t.valid_from, t.valid_to)
            )
    ) as is_ended
from ops.consent as c
cross join lateral (
    select h.* from ops.consent_change as h
    where h.consent_id = c.consent_id
    order by
        (h.status in ('granted', 'renewed')) desc,
        (h.valid_from <= timezone('Asia/Hong_Kong', clock_timestamp())::date) desc, h.status_at desc
    limit 1
) as t;
comment on view ops.consent_now is 'One row per consent with the terms that apply today in Hong Kong: those of the newest grant or renewal that has started or, if none has, of the newest.';
comment on column ops.consent_now.is_ended is 'Whether the term that applies was reported as expired.';

create table if not exists ops.consent_revocation (
    consent_id text primary key,
    revoked_at timestamptz not null default clock_timestamp(),
    revoked_by text not null,
    reason text not null
);
comment on table ops.consent_revocation is 'Consents revoked by a person on the platform, those that the feed revoked in deliveries that retention has deleted, and those that it gave to another bank, enterprise or provider. Rows are never deleted, so the feed cannot make such a consent valid again.';

create table if not exists ops.consent_suspension (
    suspension_id bigint generated always as identity primary key,
    consent_id text not null,
    batch_id bigint references ops.batch,
    line bigint,
    etag text,
    suspended_at timestamptz not null default clock_timestamp(),
    lifted_at timestamptz,
    lifted_by text,
    reason text,
    constraint suspension_has_a_source check (num_nonnulls(batch_id, etag) = 1),
    constraint suspension_is_lifted_with_reason check (num_nonnulls(lifted_at, lifted_by, reason) in (0, 3)),
    constraint suspension_once unique nulls not distinct (consent_id, batch_id, line, etag)
);
create index if not exists consent_suspended on ops.consent_suspension (consent_id) where lifted_at is null;
comment on table ops.consent_suspension is 'Consents that were read off rows, batches or files that did not get through. While one row of a consent is not lifted, no bank reads anything under it: what was lost may be its revocation.';
comment on column ops.consent_suspension.line is 'Line of the quarantined row; null when the whole batch was held.';
comment on column ops.consent_suspension.etag is 'S3 entity tag of a file that was refused before it became a batch.';

create table if not exists ops.consent_batch (
    batch_id bigint primary key references ops.batch
);
comment on table ops.consent_batch is 'Batches of cdi_consents that ops.consent has taken in.';

create table if not exists ops.consent_purpose (
    purpose text primary key
);
comment on table ops.consent_purpose is 'Purposes of a consent for which a bank may read credit features.';
insert into ops.consent_purpose (purpose) values ('loan_application'), ('loan_review') on conflict do nothing;

-- Derives the terms and the state of consents from every published batch. A consent that was ever revoked stays so.
create or replace function ops.set_consents(ids text[]) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    changed bigint;
begin
    delete from ops.consent_change where consent_id = any(ids);
    with changes as (
        select c.*, row_number() over (
            partition by c.consent_id, c.status_at order by b.business_date desc, b.counts_from desc, b.batch_id desc
        ) as recency
        from raw.cdi_consents c
        join ops.batch b on b.batch_id = c._batch_id and b.state = 'published'
        where c.consent_id = any(ids)
    ),
    stands as (
        select consent_id, bool_or(status = 'revoked') as is_revoked,
            (array_agg(status order by status_at desc) filter (where recency = 1))[1] as status,
            max(status_at) as status_at
        from changes group by consent_id
    ),
    kept as (
        insert into ops.consent_change
            (consent_id, status_at, status, brn, bank_id, provider, purpose, scopes, valid_from, valid_to)
        select consent_id, status_at, status, brn, bank_id, provider, purpose, string_to_array(scopes, ';'), valid_from,
            valid_to
        from changes where recency = 1
    )
    insert into ops.consent (consent_id, status, status_at, is_revoked)
    select consent_id, status, status_at, is_revoked from stands
    on conflict (consent_id) do update set status = excluded.status, status_at = excluded.status_at,
        is_revoked = consent.is_revoked or excluded.is_revoked, taken_in_at = clock_timestamp();
    get diagnostics changed = row_count;
    return changed;
end $$;
revoke all on function ops.set_consents(text[]) from public;

-- Takes withdrawn batches of the feed out of ops.consent. What they revoked stays revoked, and what they said of consents that
-- have other terms may have been bad news: no bank reads under those until a person lifts it. Returns how many those are.
create or replace function ops.withdraw_consents(batches bigint[]) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    ids text[];
    suspended bigint;
begin
    lock table ops.consent_batch in share row exclusive mode;
    ids := array(select distinct consent_id from raw.cdi_consents where _batch_id = any(batches));
    insert into ops.consent_revocation (consent_id, revoked_at, revoked_by, reason)
    select consent_id, min(status_at), 'platform', 'the feed revoked it in a delivery that was withdrawn'
    from raw.cdi_consents where _batch_id = any(batches) and status = 'revoked'
    group by consent_id
    on conflict do nothing;
    delete from ops.consent_batch where batch_id = any(batches);
    perform ops.set_consents(ids);
    insert into ops.consent_suspension (consent_id, batch_id)
    select distinct consent_id, _batch_id from raw.cdi_consents
    where _batch_id = any(batches) and consent_id in (select consent_id from ops.consent_change)
    on conflict on constraint suspension_once do update set
        suspended_at = clock_timestamp(), lifted_at = null, lifted_by = null, reason = null;
    get diagnostics suspended = row_count;
    return suspended;
end $$;
revoke all on function ops.withdraw_consents(bigint[]) from public;

-- Takes every published batch of the feed into ops.consent that is not in it yet. The publish step calls it in its own
-- transaction, so a revocation counts from the moment it is published; a build calls it for batches published in another way.
create or replace function ops.take_in_consents() returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    new_batches bigint[];
    changed bigint;
    new_bank text;
    asks text := 'ops.consent_is_live(text, text, text, text, text)';
    alert_id bigint;
begin
    lock table ops.consent_batch in share row exclusive mode;
    select array_agg(batch_id) into new_batches from ops.batch
    where feed = 'cdi_consents' and state = 'published' and deleted_at is null
        and batch_id not in (select batch_id from ops.consent_batch);
    if new_batches is null then
        return 0;
    end if;
    -- An identifier never moves: one that was given to a second bank, enterprise or provider is revoked for good.
    with moved as (
        select consent_id from (
            select c.consent_id, c.bank_id, c.brn, c.provider from raw.cdi_consents as c
            join ops.batch as b on b.batch_id = c._batch_id and b.state = 'published'
            where c.consent_id in (select consent_id from raw.cdi_consents where _batch_id = any(new_batches))
            union
            select consent_id, bank_id, brn, provider from ops.consent_change
        ) as given
        group by consent_id having count(*) > 1
    ),
    ended as (
        insert into ops.consent_revocation (consent_id, revoked_by, reason)
        select consent_id, 'platform', 'the feed gave it to another bank, enterprise or provider' from moved
        on conflict do nothing
        returning consent_id
    )
    select ops.raise_alert('consent', 'cdi_consents', format(
        '%s consents were given to another bank, enterprise or provider under the same number and have ended: %s. The owner gives new consents, with new numbers',
        count(*), left(string_agg(consent_id, ', ' order by consent_id), 2000)
    ))
    into alert_id
    from ended having count(*) > 0;
    changed := ops.set_consents(array(select distinct consent_id from raw.cdi_consents where _batch_id = any(new_batches)));
    insert into ops.consent_batch select unnest(new_batches);
    -- What a consent was suspended for got through in the end.
    update ops.consent_suspension as s
    set lifted_at = clock_timestamp(), lifted_by = 'publish', reason = 'what it was read off was published'
    where s.lifted_at is null and (
        exists (
            select from ops.batch b
            where b.feed = 'cdi_consents' and b.state = 'published' and (
                b.batch_id = s.batch_id
                or b.content_sha256 = (select lost.content_sha256 from ops.batch lost where lost.batch_id = s.batch_id)
            ) and not exists (
                select from quarantine.record q
                where q.feed = b.feed and q.batch_id = b.batch_id and q.line = s.line and q.state <> 'resolved'
            )
        )
        or exists (
            select from ops.delivery d join ops.batch b using (batch_id)
            where d.etag = s.etag and d.feed = 'cdi_consents' and b.state = 'published'
        )
    );
    -- The right to ask is given last: who has it has all. Rights that are given once more cost milliseconds a bank.
    for new_bank in
        select distinct c.bank_id from ops.consent_change as c
        left join pg_catalog.pg_roles as r on r.rolname = 'bank_' || lower(c.bank_id)
        where r.oid is null or not has_function_privilege(r.oid, asks, 'execute')
        order by 1
    loop
        perform ops.ensure_bank_role(new_bank);
        execute format('grant execute on function %s to %I', asks, 'bank_' || lower(new_bank));
    end loop;
    return changed;
end $$;
revoke all on function ops.take_in_consents() from public;
grant execute on function ops.take_in_consents() to sampan_builder;

-- Whether the consent behind a row holds: not revoked, within its terms, for this bank, kind of data, enterprise and provider.
-- What does not hold is dead: its rows are deleted from every release.
create or replace function ops.consent_holds(consent text, bank text, data_scope text, owner_brn text, data_provider text)
returns boolean
language plpgsql volatile security definer parallel unsafe set search_path = pg_catalog, pg_temp as $$
begin
    return exists (
        select from ops.consent_now c
        where c.consent_id = consent and c.bank_id = bank and data_scope = any(c.scopes)
            and c.brn is not distinct from owner_brn and c.provider is not distinct from data_provider
            and c.purpose in (select p.purpose from ops.consent_purpose p)
            and not c.is_revoked and not c.is_ended
            and timezone('Asia/Hong_Kong', clock_timestamp())::date between c.valid_from and c.valid_to
            and not exists (select from ops.consent_revocation r where r.consent_id = c.consent_id)
    );
end $$;
revoke all on function ops.consent_holds(text, text, text, text, text) from public;
grant execute on function ops.consent_holds(text, text, text, text, text) to sampan_builder;

-- Whether a bank may read a row at this moment: its consent holds and nothing about it was lost on its way in.
-- Volatile, so that it runs for every row that is fetched: a revocation also counts in a cursor that is already open.
-- A REPEATABLE READ snapshot would still show what was revoked, and a cursor WITH HOLD keeps rows past its transaction, for as
-- long as the session lives: both are refused.
create or replace function ops.consent_is_live(consent text, bank text, data_scope text, owner_brn text, data_provider text)
returns boolean
language plpgsql volatile security definer parallel unsafe set search_path = pg_catalog, pg_temp as $$
begin
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception 'consents are checked at the time of reading: use isolation level READ COMMITTED' using errcode = 'invalid_transaction_state';
    end if;
    if exists (select from pg_cursor() where is_holdable) then
        raise exception 'consents are checked at the time of reading: close the cursors that were declared WITH HOLD' using errcode = 'invalid_transaction_state';
    end if;
    return ops.consent_holds(consent, bank, data_scope, owner_brn, data_provider)
        and not ops.is_behind()
        and not exists (select from ops.consent_suspension s where s.consent_id = consent and s.lifted_at is null);
end $$;
revoke all on function ops.consent_is_live(text, text, text, text, text) from public;
grant execute on function ops.consent_is_live(text, text, text, text, text) to sampan_builder;

-- Releases of earlier versions have rows without their owner, and policies that call the function with three arguments: it
-- lets no bank read them. Banks that existing consents name get the right to call the new function at once.
do $$
declare
    known_bank text;
begin
    if to_regprocedure('ops.consent_is_live(text, text, text)') is not null then
        create or replace function ops.consent_is_live(consent text, bank text, data_scope text) returns boolean
        language sql stable set search_path = pg_catalog, pg_temp as 'select false';
    end if;
    if not exists (select from ops.consent_batch) then
        perform ops.take_in_consents();
    end if;
    for known_bank in
        select rolname from pg_roles where rolname in (select 'bank_' || lower(bank_id) from ops.consent_change)
        order by 1
    loop
        execute format(
            'grant execute on function ops.consent_is_live(text, text, text, text, text) to %I', known_bank
        );
    end loop;
end $$;

-- Puts a mart under forced row-level security: each bank that a consent names has a policy with its own identifier as a
-- constant, and the consent is checked when the row is read. The planner gets no statistics, and every index must begin with
-- the bank: neither an estimate nor the rows that a scan skips tell a bank anything about another bank's rows.
create or replace function ops.read_under_consent(mart regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    item record;
begin
    for item in
        select i.indexrelid::regclass as name from pg_index i
        join pg_attribute a on a.attrelid = mart and a.attnum = i.indkey[0]
        where i.indrelid = mart and a.attname <> 'bank_id'
    loop
        raise exception 'index % of % does not begin with bank_id', item.name, mart;
    end loop;
    for item in select attname from pg_attribute where attrelid = mart and attnum > 0 and not attisdropped loop
        execute format('alter table %s alter column %I set statistics 0', mart, item.attname);
    end loop;
    execute format('alter table %s enable row level security, force row level security', mart);
    execute format('create policy builder on %s to %I using (true) with check (true)', mart, current_user);
    for item in
        select distinct c.bank_id, r.rolname
        from ops.consent_change c join pg_roles r on r.rolname = 'bank_' || lower(c.bank_id) order by 1
    loop
        execute format(
            'create policy %I on %s for select to %I using'
            ' (bank_id = %L and ops.consent_is_live(consent_id, bank_id, consent_scope, consent_brn, provider))',
            item.rolname, mart, item.rolname, item.bank_id
        );
    end loop;
end $$;

create or replace view ops.consent_revocation_known as
select
    consent_id,
    revoked_at
from ops.consent_revocation where revoked_at <= ops.known_until();
comment on view ops.consent_revocation_known is 'Revocations on the platform; in a session that builds marts as known on an earlier date, those until that time.';

grant select on ops.consent, ops.consent_change, ops.consent_revocation, ops.consent_revocation_known, ops.consent_purpose to sampan_builder;
