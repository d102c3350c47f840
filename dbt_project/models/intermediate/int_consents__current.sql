-- One row per consent: its terms, what became of it, and whether it is live on the build's day. A revocation is final, by any
-- delivery of the feed or by a person here; a renewal after the end makes a consent live again. An expiry ends the term that it
-- names by its first and last day; one that names no other term of the consent ends the one that applies. ops.consent_now has the
-- same rules.
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
        ) as terms_recency
    from changes
    cross join open_build
),

terms as (
    select * from ranked where terms_recency = 1
),

ended as (
    select distinct terms.consent_id
    from terms
    inner join changes as expiries
        on
            terms.consent_id = expiries.consent_id
            and expiries.status = 'expired'
            and terms.status_at < expiries.status_at
    left join changes as named
        on
            expiries.consent_id = named.consent_id
            and named.status in ('granted', 'renewed')
            and expiries.valid_from = named.valid_from
            and expiries.valid_to = named.valid_to
    where named.consent_id is null or (terms.valid_from = named.valid_from and terms.valid_to = named.valid_to)
),

grants as (
    select
        consent_id,
        min(status_at) as granted_at
    from changes
    where status = 'granted'
    group by consent_id
),

final as (
    select
        terms.consent_id,
        terms.brn,
        links.sme_id,
        terms.bank_id,
        terms.provider,
        terms.purpose,
        terms.scopes,
        terms.valid_from,
        terms.valid_to,
        grants.granted_at,
        case
            when revoked.revoked_at is null or revocations.revoked_at < revoked.revoked_at then revocations.revoked_at
            else revoked.revoked_at
        end as revoked_at,
        revoked.consent_id is null
        and revocations.consent_id is null
        and ended.consent_id is null
        and terms.status in ('granted', 'renewed')
        and open_build.as_of_date between terms.valid_from and terms.valid_to as is_live
    from terms
    cross join open_build
    left join grants on terms.consent_id = grants.consent_id
    left join ended on terms.consent_id = ended.consent_id
    left join revoked on terms.consent_id = revoked.consent_id
    left join revocations on terms.consent_id = revocations.consent_id
    left join links on terms.brn = links.source_key
)

select * from final
