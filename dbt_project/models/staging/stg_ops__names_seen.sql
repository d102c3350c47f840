-- One row per feed and entity that it named, and what the platform knows of it: linked with an enterprise, in review or
-- unlinked. A registration number says itself who it is: it is linked where a register shows it.
with seen as (
    select * from {{ source('ops', 'identity_seen') }}
),

entities as (
    select * from {{ source('ops', 'identity_entity') }}
),

links as (
    select * from {{ ref('stg_ops__identity_links') }}
),

final as (
    select
        seen.feed,
        seen.source,
        seen.source_key,
        case
            when seen.source = 'number' and entities.is_on_register then 'linked'
            else coalesce(links.state, 'unlinked')
        end as state
    from seen
    left join entities on seen.source = entities.source and seen.source_key = entities.source_key
    left join links on seen.source = links.source and seen.source_key = links.source_key
)

select * from final
