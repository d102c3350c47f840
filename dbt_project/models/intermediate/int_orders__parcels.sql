-- One row per shop, day of payment and customs regime under which each order is a parcel of its own: how many, their value,
-- and the part under the value from which on a declaration is needed, at the rate in force on the day.
{{
    config(
        incremental_strategy='replace_changed',
        changed='int_orders__parcels_changed',
        changed_key=['platform', 'store_id', 'day'],
        indexes=[{'columns': ['platform', 'store_id', 'day', 'customs_regime'], 'unique': true}]
    )
}}

with current_lines as (
    select
        lines.*,
        {{ hong_kong_date('lines.paid_at') }} as day
    from {{ ref('int_orders__lines_versioned') }} as lines
    where lines.is_current and lines.paid_at is not null
),

regimes as (
    select * from {{ ref('customs_regimes') }} where is_parcel
),

exemptions as (
    select * from {{ ref('declaration_exemptions') }} where article = 'postal_packet'
),

rates as (
    select * from {{ ref('int_rates__days') }}
),

changed as (
    select * from {{ ref('int_orders__parcels_changed') }}
),

parcel_lines as (
    select current_lines.*
    from current_lines
    inner join regimes on current_lines.customs_regime = regimes.customs_regime
),

lines as (
    select parcel_lines.*
    from parcel_lines
    {%- if is_incremental() %}
    inner join changed
        on
            parcel_lines.platform = changed.platform
            and parcel_lines.store_id = changed.store_id
            and parcel_lines.day = changed.day
    {%- endif %}
),

parcels as (
    select
        platform,
        store_id,
        day,
        customs_regime,
        tid,
        sum(payment_cny) as payment_cny
    from lines
    group by platform, store_id, day, customs_regime, tid
),

final as (
    select
        parcels.platform,
        parcels.store_id,
        parcels.day,
        parcels.customs_regime,
        rates.hkd_per_cny,
        exemptions.limit_hkd,
        count(*) as parcel_count,
        sum(parcels.payment_cny) as parcel_cny,
        sum(case when parcels.payment_cny * rates.hkd_per_cny < exemptions.limit_hkd then 1 else 0 end) as below_count,
        sum(
            case when parcels.payment_cny * rates.hkd_per_cny < exemptions.limit_hkd then parcels.payment_cny else 0 end
        ) as below_cny
    from parcels
    left join rates on parcels.day = rates.day
    left join exemptions on {{ in_force_on('exemptions', 'parcels.day') }}
    group by
        parcels.platform,
        parcels.store_id,
        parcels.day,
        parcels.customs_regime,
        rates.hkd_per_cny,
        exemptions.limit_hkd
)

select * from final
