-- One row per month of payment and platform: orders sent as parcels of their own, and which of them are under the value from
-- which on a postal packet needs a declaration. A courier's parcel needs one at any value, and no carrier is in the feed: what is
-- under it is the most that may be absent from declared trade.

with parcels as (
    select * from {{ ref('int_orders__parcels') }}
),

rates as (
    select * from {{ ref('int_rates__days') }}
),

open_build as (
    {{ release_columns(['platform_orders']) }}
),

summed as (
    select
        {{ month_of('parcels.day') }} as payment_month,
        parcels.platform,
        cast(min(parcels.limit_hkd) as numeric(12, 2)) as exemption_limit_hkd,
        cast(sum(parcels.parcel_count) as bigint) as parcel_count,
        cast(sum(parcels.parcel_cny) as numeric(20, 2)) as parcel_value_cny,
        cast(sum(parcels.parcel_cny * parcels.hkd_per_cny) as numeric(20, 2)) as parcel_value_hkd,
        cast(sum(parcels.below_count) as bigint) as below_count,
        cast(sum(parcels.below_cny) as numeric(20, 2)) as below_value_cny,
        cast(sum(parcels.below_cny * parcels.hkd_per_cny) as numeric(20, 2)) as below_value_hkd,
        {{ month_may_grow('platform_orders', month_of('parcels.day'), 'max(open_build.last_complete_date)') }}
        or {{ any_true('rates.awaits_rate') }}
        or count(parcels.hkd_per_cny) < count(*) as is_provisional,
        coalesce({{ month_of('parcels.day') }} > {{ first_month('platform_orders') }}, false) as is_fully_covered,
        max(open_build.last_complete_date) as last_complete_date,
        cast('upper bound: postal packets only are exempt; shops that share their data' as {{ dbt.type_string() }}) as coverage_note,
        max(open_build.release_no) as release_no
    from parcels
    cross join open_build
    left join rates on parcels.day = rates.day
    group by {{ month_of('parcels.day') }}, parcels.platform
),

final as (
    select
        summed.*,
        {{ is_quotable('summed.is_provisional', 'summed.is_fully_covered') }} as is_quotable
    from summed
)

select * from final
