-- One row per consent: its terms, what became of it, and whether it is live on the build's day. A revocation is final, by any
-- delivery of the feed or by a person here; a renewal after the end makes a consent live again. ops.consent_now has the same
-- rule of terms.
{{ config(materialized='table', indexes=[{'columns': ['consent_id'], 'unique': true}]) }}

with versions as (
    select * from {{ ref('int_consents__versioned') }}
),

changes as (
    select * from versions where is_current
),

-- A newer delivery of the same change does not undo a revocation.
revoked as (
    select
        consent_id,
        min(status_at) as revoked_at
    from versions
    where status = 'revoked'
    group by consent_id
),

revocations as (
    select * from {{ ref('stg_ops__consent_revocations') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

ranked as (
    select
        changes.*,
        row_number() over (
            partition by changes.consent_id
            order by
                case when changes.status in ('granted', 'renewed') then 0 else 1 end,
                -- A renewal ahead of its term leaves the term before it in place.
                case when changes.valid_from <= open_build.as_of_date then 0 else 1 end,
                changes.status_at desc
        ) as terms_recency,
        row_number() over (partition by changes.consent_id order by changes.status_at desc) as recency
    from changes
    cross join open_build
),

histories as (
    select
        consent_id,
        min(case when status = 'granted' then status_at end) as granted_at,
        max(case when recency = 1 then status end) as last_status
    from ranked
    group by consent_id
),

final as (
    select
        ranked.consent_id,
        ranked.brn,
        links.sme_id,
        ranked.bank_id,
        ranked.provider,
        ranked.purpose,
        ranked.scopes,
        ranked.valid_from,
        ranked.valid_to,
        histories.granted_at,
        case
            when revoked.revoked_at is null or revocations.revoked_at < revoked.revoked_at then revocations.revoked_at
            else revoked.revoked_at
        end as revoked_at,
        histories.last_status,
        revoked.consent_id is null
        and revocations.consent_id is null
        and histories.last_status in ('granted', 'renewed')
        and open_build.as_of_date between ranked.valid_from and ranked.valid_to as is_live
    from ranked
    inner join histories on ranked.consent_id = histories.consent_id
    cross join open_build
    left join revoked on ranked.consent_id = revoked.consent_id
    left join revocations on ranked.consent_id = revocations.consent_id
    left join links on ranked.brn = links.source_key
    where ranked.terms_recency = 1
)

select * from final
