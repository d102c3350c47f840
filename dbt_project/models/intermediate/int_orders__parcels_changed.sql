-- One row per shop and day whose orders the open build changed, or whose rate of exchange it brought or changed.
{{ config(materialized='view') }}

with rates as (
    select * from {{ ref('int_rates__versioned') }}
),

open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

-- Rates are delivered again every day: only those are new that no earlier build had alike. One may come later than its day, or go.
changed_rates as (
    select rates.end_of_day
    from rates
    left join {{ source('ops', 'batches_to_build') }} as to_build on rates.batch_id = to_build.batch_id
    group by rates.end_of_day
    having max(rates.build_no) = (select open_build.build_no from open_build)
        and (
            count(*) = count(to_build.batch_id)
            or min(rates.hkd_per_cny) < max(rates.hkd_per_cny)
            or count(rates.hkd_per_cny) between 1 and count(*) - 1
        )
),

periods as (
    select * from {{ ref('int_rates__periods') }}
),

-- Until the day before the next rate, whether there is one of the day itself or not; the first one is that of all days before it.
changed_days as (
    select
        case
            when changed_rates.end_of_day <= (select min(firsts.rate_day) from periods as firsts) then cast('1994-01-01' as date)
            else changed_rates.end_of_day
        end as valid_from,
        cast({{ dbt.dateadd('day', -1, 'min(periods.valid_from)') }} as date) as valid_to
    from changed_rates
    left join periods on changed_rates.end_of_day < periods.valid_from
    group by changed_rates.end_of_day
),

daily as (
    select * from {{ ref('int_orders__daily') }}
),

final as (
    select
        platform,
        store_id,
        day
    from {{ ref('int_orders__changed') }}
    union distinct
    select
        daily.platform,
        daily.store_id,
        daily.day
    from daily
    inner join changed_days on {{ in_force_on('changed_days', 'daily.day') }}
)

select * from final
