-- One row per online seller and period (each calendar year, and the last 12 months): how what its shops were paid spreads over
-- platforms and customs regimes. The Herfindahl-Hirschman index is the sum of squared shares: 1 is all in one.
{{ config(indexes=[{'columns': ['period_kind', 'period_end']}]) }}

with orders as (
    select * from {{ ref('int_shops__daily') }} where sme_id is not null and paid_cny > 0
),

last_12_months as (
    select * from {{ ref('int_calendar__last_12_months') }}
),

open_build as (
    {{ release_columns(['platform_orders']) }}
),

smes as (
    select * from {{ ref('dim_sme') }}
),

periods as (
    select distinct
        'calendar_year' as period_kind,
        cast({{ dbt.date_trunc('year', 'month') }} as date) as period_start,
        cast({{ dbt.dateadd('month', 11, dbt.date_trunc('year', 'month')) }} as date) as last_month
    from orders
    union all
    select
        'last_12_months' as period_kind,
        first_month as period_start,
        last_month
    from last_12_months
),

cells as (
    select
        orders.sme_id,
        periods.period_kind,
        periods.period_start,
        periods.last_month,
        orders.platform,
        orders.customs_regime,
        sum(orders.paid_cny) as paid_cny,
        sum(orders.paid_order_count) as paid_order_count
    from orders
    inner join periods on orders.month between periods.period_start and periods.last_month
    group by
        orders.sme_id, periods.period_kind, periods.period_start, periods.last_month, orders.platform, orders.customs_regime
),

{% for kind, code in {'platform': 'platform', 'regime': 'customs_regime'}.items() %}
    {{ kind }}s as (
        select
            sme_id,
            period_kind,
            period_start,
            {{ code }},
            sum(paid_cny) as paid_cny,
            row_number() over (
                partition by sme_id, period_kind, period_start order by sum(paid_cny) desc, {{ code }}
            ) as position
        from cells
        group by sme_id, period_kind, period_start, {{ code }}
    ),

    by_{{ kind }} as (
        select
            sme_id,
            period_kind,
            period_start,
            count(*) as code_count,
            {{ herfindahl('paid_cny') }} as hhi,
            max(case when position = 1 then {{ code }} end) as top_code,
            max(paid_cny) / sum(paid_cny) as top_share
        from {{ kind }}s
        group by sme_id, period_kind, period_start
    ),
{% endfor %}

totals as (
    select
        cells.sme_id,
        cells.period_kind,
        cells.period_start,
        cells.last_month,
        sum(cells.paid_cny) as paid_cny,
        sum(cells.paid_order_count) as paid_order_count
    from cells
    group by cells.sme_id, cells.period_kind, cells.period_start, cells.last_month
),

judged as (
    select
        totals.*,
        totals.last_month > last_12_months.last_month as is_provisional,
        coalesce(totals.period_start > {{ first_month('platform_orders') }}, false) as is_fully_covered,
        open_build.last_complete_date,
        open_build.release_no
    from totals
    cross join open_build
    cross join last_12_months
),

final as (
    select
        judged.sme_id,
        smes.sme_class,
        smes.counts_as_sme,
        judged.period_kind,
        judged.period_start,
        cast({{ dbt.last_day('judged.last_month', 'month') }} as date) as period_end,
        cast(judged.paid_cny as numeric(20, 2)) as paid_cny,
        cast(judged.paid_order_count as bigint) as paid_order_count,
        cast(by_platform.code_count as integer) as platform_count,
        by_platform.top_code as top_platform,
        cast({{ shown_from('judged.paid_order_count', 'by_platform.top_share') }} as numeric(9, 6)) as top_platform_share,
        cast({{ shown_from('judged.paid_order_count', 'by_platform.hhi') }} as numeric(9, 6)) as platform_hhi,
        cast(by_regime.code_count as integer) as regime_count,
        by_regime.top_code as top_customs_regime,
        cast({{ shown_from('judged.paid_order_count', 'by_regime.top_share') }} as numeric(9, 6)) as top_regime_share,
        cast({{ shown_from('judged.paid_order_count', 'by_regime.hhi') }} as numeric(9, 6)) as regime_hhi,
        judged.is_provisional,
        judged.is_fully_covered,
        {{ is_quotable('judged.is_provisional', 'judged.is_fully_covered') }} as is_quotable,
        judged.last_complete_date,
        cast('shops that share their data and are linked' as {{ dbt.type_string() }}) as coverage_note,
        judged.release_no
    from judged
    inner join smes on judged.sme_id = smes.sme_id
    inner join by_platform
        on
            judged.sme_id = by_platform.sme_id
            and judged.period_kind = by_platform.period_kind
            and judged.period_start = by_platform.period_start
    inner join by_regime
        on
            judged.sme_id = by_regime.sme_id
            and judged.period_kind = by_regime.period_kind
            and judged.period_start = by_regime.period_start
)

select * from final
