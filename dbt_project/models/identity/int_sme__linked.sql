-- One row per identifier of an enterprise in a source: which SME it is, and on what basis. All else asks only here.
{{ config(materialized='table', indexes=[{'columns': ['source', 'source_key'], 'unique': true}]) }}

with numbers as (
    select * from {{ ref('int_sme__numbered') }}
),

participants as (
    select * from {{ ref('int_festival__participants_versioned') }} where is_current
),

shops as (
    select
        platform,
        store_id,
        brn,
        row_number() over (partition by platform, store_id order by joined_on desc, event_id desc, merchant_no desc) as recency
    from participants
    where brn is not null
),

by_number as (
    select
        'number' as source,
        number as source_key,
        sme_id,
        'registration_number' as link_basis
    from numbers
),

by_shop as (
    select
        'shop' as source,
        {{ dbt.concat(["shops.platform", "':'", "shops.store_id"]) }} as source_key,
        numbers.sme_id,
        'festival_registration' as link_basis
    from shops
    inner join numbers on shops.brn = numbers.number
    where shops.recency = 1
),

final as (
    select * from by_number
    union all
    select * from by_shop
)

select * from final
