-- One row per shop, category, measure and window around the month in which the shop won its first mark or lost its last one: a
-- figure in three months before and after, and what it would be at the rate of the shops without a mark in the same category.
-- `shop` are marks of the shop itself, `any` those of its enterprise too.
{{ config(materialized='table') }}

with statuses as (
    select * from {{ ref('int_marks__versioned') }} where is_current
),

certificates as (
    select * from {{ ref('int_marks__current') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'shop'
),

open_build as (
    {{ release_columns(['platform_orders', 'quality_marks']) }}
),

orders as (
    select daily.*
    from {{ ref('int_shops__daily') }} as daily
    inner join open_build on {{ last_settled_month('platform_orders', 'open_build.last_complete_date') }} >= daily.month
    where daily.month > {{ first_month('platform_orders') }}
),

terms as (
    select
        scheme,
        certificate_no,
        min(case when status = 'valid' then valid_from end) as won_on,
        max(case when status = 'valid' then valid_to end) as last_day,
        max(case when status <> 'valid' then {{ hong_kong_date('status_at') }} end) as ended_on
    from statuses
    group by scheme, certificate_no
),

dated as (
    select
        certificates.*,
        terms.won_on,
        coalesce(terms.ended_on, {{ dbt.dateadd('day', 1, 'terms.last_day') }}) as lost_on
    from certificates
    inner join terms on certificates.mark_scheme = terms.scheme and certificates.certificate_no = terms.certificate_no
),

-- A mark of an enterprise is in all its shops.
marked as (
    select
        links.source_key as shop,
        links.sme_id as cluster_key,
        false as is_of_shop,
        dated.is_valid,
        dated.won_on,
        dated.lost_on
    from dated
    inner join links on dated.sme_id = links.sme_id
    where dated.mark_scope <> 'shop'
    union all
    select
        links.source_key as shop,
        links.sme_id as cluster_key,
        true as is_of_shop,
        dated.is_valid,
        dated.won_on,
        dated.lost_on
    from dated
    inner join links on links.source_key = {{ shop_key('dated') }}
    where dated.mark_scope = 'shop' and coalesce(dated.sme_id, links.sme_id) = links.sme_id
),

scoped as (
    select
        'any' as audience,
        marked.*
    from marked
    union all
    select
        'shop' as audience,
        marked.*
    from marked
    where is_of_shop
),

changes as (
    select
        'won' as event,
        audience,
        shop,
        cluster_key,
        {{ month_of('min(won_on)') }} as month
    from scoped
    group by audience, shop, cluster_key
    union all
    select
        'lost' as event,
        audience,
        shop,
        cluster_key,
        {{ month_of('max(lost_on)') }} as month
    from scoped
    group by audience, shop, cluster_key
    having not {{ any_true('is_valid') }} and max(lost_on) is not null
),

spans as (
    select
        changes.*,
        'placebo' as time_window,
        cast({{ dbt.dateadd('month', -6, 'month') }} as date) as before_first,
        cast({{ dbt.dateadd('month', -4, 'month') }} as date) as before_last,
        cast({{ dbt.dateadd('month', -3, 'month') }} as date) as after_first,
        cast({{ dbt.dateadd('month', -1, 'month') }} as date) as after_last
    from changes
    union all
    select
        changes.*,
        'after' as time_window,
        cast({{ dbt.dateadd('month', -3, 'month') }} as date) as before_first,
        cast({{ dbt.dateadd('month', -1, 'month') }} as date) as before_last,
        cast({{ dbt.dateadd('month', 1, 'month') }} as date) as after_first,
        cast({{ dbt.dateadd('month', 3, 'month') }} as date) as after_last
    from changes
),

-- Windows that the history holds whole.
whole as (
    select spans.*
    from spans
    cross join open_build
    where
        spans.before_first > {{ first_month('platform_orders') }}
        and spans.after_last <= {{ last_settled_month('platform_orders', 'open_build.last_complete_date') }}
),

monthly as (
    select
        shop,
        category,
        month,
        sum(paid_cny - refunded_cny) as net_cny,
        sum(paid_line_count) as paid_lines,
        sum(refunded_line_count) as refunded_lines
    from orders
    group by shop, category, month
),

-- Shops without any mark, then or now; a market of fewer than 10 shops tells too little.
market as (
    select
        monthly.category,
        monthly.month,
        sum(monthly.net_cny) as net_cny,
        sum(monthly.refunded_lines) as refunded_lines,
        sum(monthly.paid_lines) as paid_lines
    from monthly
    left join marked on monthly.shop = marked.shop
    where marked.shop is null
    group by monthly.category, monthly.month
    having count(distinct monthly.shop) >= 10
),

sold as (
    select
        whole.event,
        whole.audience,
        whole.time_window,
        whole.cluster_key,
        whole.shop,
        monthly.category,
        monthly.month >= whole.after_first as is_after,
        sum(monthly.net_cny) as net_cny,
        sum(monthly.refunded_lines) as refunded_lines,
        sum(market.net_cny) as market_net_cny,
        sum(monthly.paid_lines * market.refunded_lines / nullif(market.paid_lines, 0)) as expected_refunded_lines
    from whole
    inner join monthly
        on
            whole.shop = monthly.shop
            and (
                monthly.month between whole.before_first and whole.before_last
                or monthly.month between whole.after_first and whole.after_last
            )
    inner join market
        on monthly.category = market.category and monthly.month = market.month
    group by
        whole.event,
        whole.audience,
        whole.time_window,
        whole.cluster_key,
        whole.shop,
        monthly.category,
        monthly.month >= whole.after_first
),

measured as (
    select
        sold.*,
        'net_sales' as measure,
        net_cny as value,
        market_net_cny as base
    from sold
    union all
    select
        sold.*,
        'refund_rate' as measure,
        refunded_lines as value,
        expected_refunded_lines as base
    from sold
),

final as (
    select
        event,
        measure,
        time_window,
        cluster_key,
        shop,
        category as stratum,
        true as is_treated,
        audience as audiences,
        cast(sum(case when is_after then 0 else base end) as {{ dbt.type_float() }}) as before_base,
        cast(sum(case when is_after then base else 0 end) as {{ dbt.type_float() }}) as after_base,
        cast(sum(case when is_after then 0 else value end) as {{ dbt.type_float() }}) as before_value,
        cast(sum(case when is_after then value else 0 end) as {{ dbt.type_float() }}) as after_value
    from measured
    group by event, measure, time_window, cluster_key, shop, category, audience
)

select * from final
