-- One row per certificate as it stands on the release day. It is valid when its newest status says so and the day lies in
-- its term; a scope other than company covers a brand, a product or a shop of the holder.
{{ config(materialized='view') }}

with statuses as (
    select * from {{ ref('int_marks__versioned') }} where is_current
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'certificate'
),

open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

newest as (
    select
        statuses.*,
        row_number() over (
            partition by statuses.scheme, statuses.certificate_no
            order by
                -- A renewal entered ahead of its term leaves the term before it in place; a withdrawal of either ends it.
                case when statuses.status = 'valid' and statuses.valid_from > open_build.as_of_date then 1 else 0 end,
                statuses.status_at desc
        ) as recency
    from statuses
    cross join open_build
    where {{ hong_kong_date('statuses.status_at') }} <= open_build.as_of_date
),

final as (
    select
        newest.scheme as mark_scheme,
        newest.certificate_no,
        newest.issuer,
        newest.scope as mark_scope,
        newest.subject,
        newest.holder_name,
        newest.platform,
        newest.store_id,
        newest.status,
        newest.valid_from,
        newest.valid_to,
        newest.status = 'valid' and {{ in_force_on('newest', 'open_build.as_of_date') }} as is_valid,
        links.sme_id,
        coalesce(links.link_basis, 'none') as link_basis
    from newest
    cross join open_build
    left join links on links.source_key = {{ dbt.concat(["newest.scheme", "':'", "newest.certificate_no"]) }}
    where newest.recency = 1
)

select * from final
