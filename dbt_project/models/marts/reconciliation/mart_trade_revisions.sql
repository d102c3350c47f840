-- One row per series, month, flow and day on which the value changed: how a month's total was revised. Known on is the business
-- date of the delivery; flows are not to be added up across series, and a series not to be added up over days.
with delivered as (
    select * from {{ ref('int_trade__delivered') }}
),

superseded as (
    select * from {{ ref('int_trade__superseded') }}
),

statistics as (
    select * from {{ ref('int_csd__statistics_versioned') }} where source = 'web_table' and figure_status <> 'not_available'
),

open_build as (
    {{ release_columns(['customs_declarations']) }}
),

declared_changes as (
    select
        month,
        flow,
        business_date as known_on,
        value_hkd,
        line_count
    from delivered
    union all
    select
        month,
        flow,
        ended_on as known_on,
        -value_hkd as value_hkd,
        -1 as line_count
    from superseded
),

declared_days as (
    select
        month,
        flow,
        known_on,
        sum(value_hkd) as change_hkd,
        sum(line_count) as line_change
    from declared_changes
    group by month, flow, known_on
),

declared as (
    select
        'declared' as series,
        month,
        flow,
        known_on,
        change_hkd,
        sum(change_hkd) over (partition by month, flow order by known_on) as value_hkd,
        sum(line_change) over (partition by month, flow order by known_on) as line_count,
        false as is_marked_provisional
    from declared_days
    where change_hkd <> 0 or line_change <> 0
),

-- The last figure that was delivered on a day.
published_days as (
    select
        statistics.*,
        row_number() over (
            partition by month_start, flow, business_date order by received_at desc, batch_id desc
        ) as recency
    from statistics
),

published_steps as (
    select
        month_start as month,
        flow,
        business_date as known_on,
        value_hkd,
        coalesce(maturity = 'p', false) as is_marked_provisional,
        lag(value_hkd) over (partition by month_start, flow order by business_date) as value_before_hkd,
        lag(coalesce(maturity, '')) over (partition by month_start, flow order by business_date) as maturity_before,
        coalesce(maturity, '') as maturity
    from published_days
    where recency = 1
),

published as (
    select
        'published' as series,
        month,
        flow,
        known_on,
        value_hkd - coalesce(value_before_hkd, 0) as change_hkd,
        value_hkd,
        cast(null as bigint) as line_count,
        is_marked_provisional
    from published_steps
    where value_before_hkd is null or value_before_hkd <> value_hkd or maturity_before <> maturity
),

all_series as (
    select * from declared
    union all
    select * from published
),

ordered as (
    select
        all_series.*,
        row_number() over (partition by series, month, flow order by known_on) as revision_no,
        row_number() over (partition by series, month, flow order by known_on desc) as recency
    from all_series
),

final as (
    select
        cast(ordered.series as {{ dbt.type_string() }}) as series,
        ordered.month as movement_month,
        cast(ordered.flow as {{ dbt.type_string() }}) as flow,
        ordered.known_on,
        cast(ordered.revision_no as integer) as revision_no,
        cast(ordered.value_hkd as numeric(20, 2)) as value_hkd,
        cast(ordered.change_hkd as numeric(20, 2)) as change_hkd,
        cast(ordered.line_count as bigint) as line_count,
        ordered.recency = 1 as is_latest,
        ordered.is_marked_provisional
        or (
            ordered.series = 'declared' and {{ month_may_grow('customs_declarations', 'ordered.month', 'ordered.known_on') }}
        ) as is_provisional,
        ordered.recency = 1 and {{ is_quotable(
            "ordered.is_marked_provisional or (ordered.series = 'declared' and "
            ~ month_may_grow('customs_declarations', 'ordered.month', 'open_build.last_complete_date') ~ ')',
            "ordered.series = 'published' or ordered.month > " ~ first_month('customs_declarations')
        ) }} as is_quotable,
        open_build.last_complete_date,
        cast(
            case
                when ordered.series = 'declared' then 'declared trade as of the business date, without gold'
                else 'C&SD web table 410-50001 in HK$ million, without gold'
            end as {{ dbt.type_string() }}
        ) as coverage_note,
        open_build.release_no
    from ordered
    cross join open_build
)

select * from final
