-- What people see at the desks. Each view decides by the login whose session it is; a login without a role sees nothing.
-- A security barrier lets leakproof operators run below a view's condition, and the counts of a plan tell what they found
-- among the rows of others. So what a login sees is found first, whole (materialized), and its own conditions after that.
create or replace view desk.role with (security_barrier) as
select role.rolname from pg_roles as role
where pg_has_role(session_user, role.oid, 'usage');
comment on view desk.role is 'The roles whose rights the login has.';

create or replace view desk.feed with (security_barrier) as
select
    feed.feed,
    feed.partner,
    'sampan_operator' in (select mine.rolname from desk.role as mine) as is_operator,
    'steward_' || feed.partner in (select mine.rolname from desk.role as mine) as is_steward
from ops.feed
where
    'sampan_operator' in (select mine.rolname from desk.role as mine)
    or 'steward_' || feed.partner in (select mine.rolname from desk.role as mine);
comment on view desk.feed is 'Feeds of the partners whose steward the login is; all feeds for an operator.';

-- What decides which problem is open calls functions that read tables of ops, which the people at the desks may not.
create or replace function desk.open_batches() returns table (batch_id bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select open_problem.batch_id from ops.open_problem
    where open_problem.batch_id is not null and open_problem.feed in (select visible.feed from desk.feed as visible)
$$;
comment on function desk.open_batches is 'Batches of these feeds that are held, and that no later delivery replaced and no person rejected.';

create or replace view desk.delivery with (security_barrier) as
with shown as materialized (
    select
        batch.batch_id,
        batch.feed,
        batch.business_date,
        batch.origin,
        case when batch.origin = 'delivery' then regexp_replace(batch.source_uri, '^.*/', '') end as file,
        batch.received_at,
        case when batch.rejected_at is null then batch.state else 'rejected' end as state,
        batch.rows_in,
        batch.rows_published,
        batch.rows_quarantined,
        batch.rows_duplicate,
        batch.rows_held,
        batch.problem,
        batch.rejected_because,
        batch.state = 'held' and batch.row_rules_at is not null as may_be_accepted,
        batch.batch_id in (select still.batch_id from desk.open_batches() as still) as is_open
    from ops.batch
    where batch.feed in (select visible.feed from desk.feed as visible) and batch.deleted_at is null
    union all
    select
        null as batch_id,
        delivery.feed,
        delivery.business_date,
        'delivery' as origin,
        delivery.problem ->> 'file' as file,
        delivery.received_at,
        'refused' as state,
        null as rows_in,
        null as rows_published,
        null as rows_quarantined,
        null as rows_duplicate,
        null as rows_held,
        delivery.problem,
        null as rejected_because,
        false as may_be_accepted,
        true as is_open
    from ops.delivery
    where
        delivery.feed in (select visible.feed from desk.feed as visible) and delivery.deleted_at is null
        and delivery.problem ->> 'rule' <> 'delivery.marker'
)

select * from shown;
comment on view desk.delivery is 'Deliveries of these feeds and what became of each. state: of ops.batch, rejected (by an operator) or refused (when landing).';

-- A function: of one batch it reads an index, and a plan says nothing of what it found.
create or replace function desk.broken_rules(of_batch bigint) returns table (rule text, row_count bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select broken.rule, count(*)
    from quarantine.record cross join unnest(record.broken_rules) as broken (rule)
    where record.batch_id = of_batch and record.feed in (select visible.feed from desk.feed as visible)
    group by broken.rule
$$;
comment on function desk.broken_rules is 'How many rows of a batch of these feeds broke a rule, by rule.';
drop view if exists desk.broken_rule;

create or replace view desk.finding with (security_barrier) as
with newest as (
    select
        suite,
        rule,
        description,
        build_no,
        severity,
        success,
        expectation,
        kwargs,
        observed,
        max(build_no) over (partition by suite) as newest_no
    from ops.gate_result
    where build_no is not null
),

decided as (
    select distinct on (mart, rule)
        mart,
        rule,
        verdict,
        reason,
        decided_by,
        decided_at
    from ops.finding_decision
    where ended_at is null
    order by mart asc, rule asc, decision_id desc
),

shown as materialized (
    select
        newest.suite as mart,
        newest.rule,
        newest.description,
        newest.build_no,
        decided.verdict,
        decided.reason,
        decided.decided_by,
        decided.decided_at,
        newest.expectation,
        newest.kwargs,
        newest.observed
    from newest
    left join decided on newest.suite = decided.mart and newest.rule = decided.rule
    where
        'sampan_operator' in (select mine.rolname from desk.role as mine)
        and newest.build_no = newest.newest_no and newest.severity = 'critical' and not newest.success
)

select * from shown;
comment on view desk.finding is 'Critical rules of marts that the newest gate found broken, and the decision on each. For operators.';

create or replace view desk.proposal with (security_barrier) as
with shown as materialized (
    select
        review.review_id,
        review.source,
        review.source_key,
        (
            select array_agg(name.name order by name.name) from ops.identity_name as name
            where name.source = review.source and name.source_key = review.source_key
        ) as names,
        review.number,
        (
            select array_agg(name.name order by name.name) from ops.identity_name as name
            where name.source = 'number' and name.source_key = review.number
        ) as number_names,
        review.probability,
        review.evidence,
        review.reason,
        review.state,
        review.proposed_at
    from ops.identity_review as review
    where 'sampan_operator' in (select mine.rolname from desk.role as mine)
)

select * from shown;
comment on view desk.proposal is 'Links between an entity and an enterprise that are likely but not certain. For operators.';

create or replace view desk.consent with (security_barrier) as
with today as (
    select timezone('Asia/Hong_Kong', clock_timestamp())::date as day
),

shown as materialized (
    select
        consent.consent_id,
        consent.bank_id,
        consent.provider,
        consent.purpose,
        consent.scopes,
        consent.valid_from,
        consent.valid_to,
        case
            when consent.is_revoked or revocation.consent_id is not null then 'revoked'
            when consent.is_ended or consent.valid_to < today.day then 'ended'
            when consent.valid_from > today.day then 'not_begun'
            when consent.purpose not in (select known.purpose from ops.consent_purpose as known) then 'other_purpose'
            when
                consent.consent_id in (select lost.consent_id from ops.consent_suspension as lost where lost.lifted_at is null)
                then 'suspended'
            else 'live'
        end as state,
        coalesce(revocation.revoked_at, case when consent.is_revoked then consent.status_at end) as revoked_at
    from ops.consent_now as consent
    cross join today
    left join ops.consent_revocation as revocation on consent.consent_id = revocation.consent_id
    where 'bank_' || lower(consent.bank_id) in (select mine.rolname from desk.role as mine)
)

select * from shown;
comment on view desk.consent is 'Consents that name the bank of the login, as they are now. Only a live one lets it read rows of mart_credit_features.';

create or replace view desk.request with (security_barrier) as
with shown as materialized (
    select
        request.request_id,
        request.action,
        request.feed,
        request.subject,
        request.reason,
        request.requested_by,
        request.requested_at,
        request.state,
        request.ended_at,
        request.outcome
    from ops.request
    where
        'sampan_operator' in (select mine.rolname from desk.role as mine) or request.requested_by = session_user
        or request.feed in (select visible.feed from desk.feed as visible)
)

select * from shown;
comment on view desk.request is 'Requests of the login, and of others about feeds that it sees; all for an operator.';

-- What a request's corrected rows are now, as their steward sees them. Its rows are a client's texts: what cannot be an id finds nothing.
create or replace function desk.corrected(of_request bigint)
returns table (
    quarantine_id bigint, business_date date, file text, line bigint, broken_rules text[], fields jsonb
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    of_feed text;
    ids bigint [];
begin
    select
        request.feed,
        array(
            select case when item.row ->> '_quarantine_id' ~ '^[0-9]{1,18}$' then (item.row ->> '_quarantine_id')::bigint end
            from jsonb_array_elements(
                case jsonb_typeof(request.subject -> 'rows') when 'array' then request.subject -> 'rows' else '[]' end
            ) as item (row)
        )
    into of_feed, ids
    from ops.request
    where
        request.request_id = of_request and request.action = 'correct_rows' and request.state = 'asked'
        and request.feed in (select visible.feed from desk.feed as visible);
    if of_feed is null then
        return;
    end if;
    return query execute format(
        $query$
        select quarantine_id, business_date, file, line, broken_rules, fields from quarantine.%I
        where quarantine_id = any($1) and state = 'open'
        $query$,
        of_feed || '__rows'
    ) using ids;
end $$;
comment on function desk.corrected is
'Open rejected rows that a request would correct, as the steward of their partner sees them. For those who see the feed.';

-- The only way to ask. It says who asks by the session's login, so that no text of a client decides it.
create or replace function desk.ask(action text, subject jsonb, reason text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    of_feed text := subject ->> 'feed';
    allowed text := 'sampan_operator';
    asked bigint;
begin
    if jsonb_typeof(subject) is distinct from 'object' then
        raise exception 'the subject of a request is an object' using errcode = 'invalid_parameter_value';
    end if;
    if action = 'correct_rows' then
        select 'steward_' || partner into allowed from ops.feed where feed.feed = of_feed;
    end if;
    if allowed is null or allowed not in (select mine.rolname from desk.role as mine) then
        raise exception 'this login may not ask for that' using errcode = 'insufficient_privilege';
    end if;
    if (select count(*) from ops.request where request.requested_by = session_user and request.state in ('asked', 'waiting')) >= 100 then
        raise exception '100 requests of this login are not decided yet' using errcode = 'program_limit_exceeded';
    end if;
    -- Only corrected rows are large, and they are deleted when it is decided.
    if octet_length((subject - 'rows')::text) > 2000 then
        raise exception 'a request names what it is about in 2,000 bytes' using errcode = 'program_limit_exceeded';
    end if;
    insert into ops.request (action, feed, subject, reason, requested_by, requested_as, state)
    values (
        $1, of_feed, $2, btrim($3), session_user, allowed, case $1 when 'correct_rows' then 'asked' else 'waiting' end
    )
    returning request_id into asked;
    return asked;
end $$;
comment on function desk.ask is
'Ask the platform to do something: an operator to decide on a batch, a finding, a proposal or a request; a steward to correct rows.';

revoke all on all functions in schema desk from public;
-- Those who have a desk; every bank's role is a member of sampan_bank (ops.ensure_bank_role).
do $$
declare
    item name;
begin
    for item in select rolname from pg_roles where rolname ~ '^(sampan_operator|sampan_bank|steward_[a-z0-9_]+)$' loop
        execute format('grant usage on schema desk to %I', item);
        execute format('grant select on all tables in schema desk to %I', item);
        execute format('grant execute on all functions in schema desk to %I', item);
    end loop;
end $$;
