-- One row per feed and entity that it named: whether the linkage knows which enterprise that is.
with seen as (
    select * from {{ source('ops', 'identity_seen') }}
),

links as (
    select * from {{ ref('stg_ops__identity_links') }}
),

final as (
    select
        seen.feed,
        seen.source,
        seen.source_key,
        coalesce(links.state, 'unlinked') as state
    from seen
    left join links on seen.source = links.source and seen.source_key = links.source_key
)

select * from final
