-- One row per month and platform: what was paid in yuan, worth at the HKMA rates of its days and at what the yuan of the same
-- month of the year before were worth, so that growth in Hong Kong dollars parts into trade and currency. A platform has a row
-- with 0 in a month in which it sold nothing, if it did a year before.

with daily as (
    select * from {{ ref('int_orders__daily') }}
),

rates as (
    select * from {{ ref('int_rates__days') }}
),

open_build as (
    {{ release_columns(['platform_orders']) }}
),

by_day as (
    select
        day,
        platform,
        sum(paid_cny) as paid_cny
    from daily
    group by day, platform
),

shops as (
    select
        {{ month_of('day') }} as month,
        platform,
        count(distinct store_id) as shop_count
    from daily
    where paid_cny > 0
    group by {{ month_of('day') }}, platform
),

monthly as (
    select
        {{ month_of('by_day.day') }} as month,
        by_day.platform,
        sum(by_day.paid_cny) as paid_cny,
        case when count(rates.hkd_per_cny) = count(*) then sum(by_day.paid_cny * rates.hkd_per_cny) end as paid_hkd,
        {{ any_true('rates.awaits_rate') }} as awaits_rate
    from by_day
    left join rates on by_day.day = rates.day
    group by {{ month_of('by_day.day') }}, by_day.platform
),

year_before as (
    select
        cast({{ dbt.dateadd('month', 12, 'monthly.month') }} as date) as month,
        monthly.platform,
        monthly.paid_cny,
        monthly.paid_hkd
    from monthly
    where monthly.month > {{ first_month('platform_orders') }}
),

-- What a platform that sold nothing the year before is compared at.
year_before_rates as (
    select
        month,
        sum(paid_hkd) / nullif(sum(paid_cny), 0) as hkd_per_cny
    from year_before
    where paid_hkd is not null
    group by month
),

spine as (
    select
        month,
        platform
    from monthly
    union distinct
    select
        year_before.month,
        year_before.platform
    from year_before
    inner join open_build on year_before.month <= open_build.last_complete_date
),

filled as (
    select
        spine.month,
        spine.platform,
        coalesce(monthly.paid_cny, 0) as paid_cny,
        case when monthly.month is null then 0 else monthly.paid_hkd end as paid_hkd,
        case
            when monthly.awaits_rate or (monthly.month is not null and monthly.paid_hkd is null) then 1 else 0
        end as awaits_rate,
        case
            when year_before.month is not null then year_before.paid_cny
            when spine.month > {{ dbt.dateadd('month', 12, first_month('platform_orders')) }} then 0
        end as year_before_paid_cny,
        case
            when year_before.month is not null then year_before.paid_hkd
            when spine.month > {{ dbt.dateadd('month', 12, first_month('platform_orders')) }} then 0
        end as year_before_paid_hkd,
        coalesce(year_before.paid_hkd / nullif(year_before.paid_cny, 0), year_before_rates.hkd_per_cny) as constant_rate,
        least(coalesce(shops.shop_count, 0), coalesce(shops_before.shop_count, 0)) as compared_shop_count
    from spine
    left join monthly on spine.month = monthly.month and spine.platform = monthly.platform
    left join year_before on spine.month = year_before.month and spine.platform = year_before.platform
    left join year_before_rates on spine.month = year_before_rates.month
    left join shops on spine.month = shops.month and spine.platform = shops.platform
    left join shops as shops_before
        on
            spine.month = {{ dbt.dateadd('month', 12, 'shops_before.month') }}
            and spine.platform = shops_before.platform
),

compared as (
    select
        filled.*,
        filled.paid_cny * filled.constant_rate as constant_rate_hkd,
        max(filled.awaits_rate) over (partition by filled.month) as month_awaits_rate
    from filled
),

final as (
    select
        compared.month as payment_month,
        compared.platform,
        cast(compared.paid_cny as numeric(20, 2)) as paid_cny,
        cast(compared.paid_hkd as numeric(20, 2)) as paid_hkd,
        cast(compared.paid_hkd / nullif(compared.paid_cny, 0) as numeric(12, 6)) as hkd_per_cny,
        cast(compared.year_before_paid_cny as numeric(20, 2)) as year_before_paid_cny,
        cast(compared.year_before_paid_hkd as numeric(20, 2)) as year_before_paid_hkd,
        cast(compared.constant_rate_hkd as numeric(20, 2)) as paid_at_year_before_rate_hkd,
        cast(compared.compared_shop_count as integer) as compared_shop_count,
        cast(
            {{
                shown_from(
                    'compared.compared_shop_count', '100 * (compared.paid_hkd / nullif(compared.year_before_paid_hkd, 0) - 1)'
                )
            }}
            as numeric(12, 4)
        ) as growth_hkd_pct,
        cast(
            {{
                shown_from(
                    'compared.compared_shop_count',
                    '100 * (compared.constant_rate_hkd / nullif(compared.year_before_paid_hkd, 0) - 1)'
                )
            }}
            as numeric(12, 4)
        ) as growth_constant_rate_pct,
        cast(compared.paid_hkd - compared.constant_rate_hkd as numeric(20, 2)) as currency_effect_hkd,
        {{ month_may_grow('platform_orders', 'compared.month', 'open_build.last_complete_date') }}
        or compared.month_awaits_rate = 1 as is_provisional,
        compared.year_before_paid_hkd is not null as is_fully_covered,
        {{ is_quotable(
            month_may_grow('platform_orders', 'compared.month', 'open_build.last_complete_date')
            ~ ' or compared.month_awaits_rate = 1',
            'compared.year_before_paid_hkd is not null'
        ) }} as is_quotable,
        open_build.last_complete_date,
        cast('shops that share their data' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from compared
    cross join open_build
)

select * from final
