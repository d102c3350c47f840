-- One row per shop, day, category and customs regime: placed on the day (GMV), and paid on the day with what of it was
-- refunded since, under all requests of a line together. An order counts at its first line, so that counts add up over
-- categories and regimes.
{{
    config(
        incremental_strategy='replace_changed',
        changed='int_orders__changed',
        changed_key=['platform', 'store_id', 'day'],
        indexes=[{'columns': ['platform', 'store_id', 'day', 'category', 'customs_regime'], 'unique': true}]
    )
}}

with placed_lines as (
    select * from {{ ref('int_orders__lines_versioned') }} where is_current
),

paid_lines as (
    select * from {{ ref('int_orders__lines_versioned') }} where is_current and paid_at is not null
),

refunds as (
    select * from {{ ref('int_orders__refunds') }}
),

changed as (
    select * from {{ ref('int_orders__changed') }}
),

placed as (
    select
        placed_lines.*,
        {{ hong_kong_date('placed_lines.created_at') }} as day,
        0 as refunded_cny,
        1 as is_placed,
        0 as is_paid
    from placed_lines
),

paid as (
    select
        paid_lines.*,
        {{ hong_kong_date('paid_lines.paid_at') }} as day,
        -- No more comes back than was paid, whatever the requests add up to.
        least(coalesce(refunds.refunded_cny, 0), paid_lines.payment_cny) as refunded_cny,
        0 as is_placed,
        1 as is_paid
    from paid_lines
    left join refunds on paid_lines.platform = refunds.platform and paid_lines.oid = refunds.oid
),

events as (
    select * from placed
    union all
    select * from paid
),

changed_events as (
    select events.*
    from events
    {%- if is_incremental() %}
    inner join changed
        on events.platform = changed.platform and events.store_id = changed.store_id and events.day = changed.day
    {%- endif %}
),

counted as (
    select
        changed_events.*,
        case
            when row_number() over (partition by platform, tid, store_id, is_placed, day order by oid) = 1 then 1 else 0
        end as is_first_line
    from changed_events
),

final as (
    select
        platform,
        store_id,
        day,
        category,
        customs_regime,
        sum(is_placed * total_fee_cny) as placed_cny,
        sum(is_placed) as placed_line_count,
        sum(is_placed * is_first_line) as placed_order_count,
        sum(is_placed * item_count) as placed_item_count,
        sum(is_paid * payment_cny) as paid_cny,
        sum(is_paid) as paid_line_count,
        sum(is_paid * is_first_line) as paid_order_count,
        sum(refunded_cny) as refunded_cny,
        sum(case when refunded_cny > 0 then 1 else 0 end) as refunded_line_count
    from counted
    group by platform, store_id, day, category, customs_regime
)

select * from final
