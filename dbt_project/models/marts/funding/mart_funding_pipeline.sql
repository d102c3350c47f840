-- One row per year of receipt, programme (each, bud: its three, all) and value of one dimension: applications and how they
-- ended. Rows overlap: add up only within one programme and one dimension. A median cannot be added up at all. Rate and median
-- are empty where fewer than 10 were decided.
with applications as (
    select * from {{ ref('mart_funding_applications') }}
),

open_build as (
    {{ release_columns(['funding_applications']) }}
),

history as (
    select extract(year from min(received_on)) as first_year from applications
),

dimensions as (
    select 'total' as dimension
    union all
    select 'market_iso2_code' as dimension
    union all
    select 'industry_section' as dimension
    union all
    select 'sme_class' as dimension
),

sliced as (
    select
        applications.*,
        dimensions.dimension,
        case dimensions.dimension
            when 'total' then 'all'
            when 'market_iso2_code' then applications.market_iso2_code
            when 'industry_section' then applications.industry_section
            else applications.sme_class
        end as dimension_value
    from applications
    cross join dimensions
),

grouped as (
    select
        sliced.*,
        programme as programme_group
    from sliced
    union all
    select
        sliced.*,
        'bud' as programme_group
    from sliced
    where funding_scheme = 'bud'
    union all
    select
        sliced.*,
        'all' as programme_group
    from sliced
),

counted as (
    select
        cast(extract(year from received_on) as integer) as received_year,
        programme_group as programme,
        dimension,
        dimension_value,
        count(*) as application_count,
        sum(case when outcome = 'approved' then 1 else 0 end) as approved_count,
        sum(case when outcome = 'rejected' then 1 else 0 end) as rejected_count,
        sum(case when outcome = 'withdrawn' then 1 else 0 end) as withdrawn_count,
        sum(case when outcome = 'pending' then 1 else 0 end) as pending_count,
        sum(case when outcome in ('approved', 'rejected') then 1 else 0 end) as decided_count,
        {{ median('processing_days') }} as median_processing_days,
        sum(amount_applied_hkd) as amount_applied_hkd,
        sum(coalesce(amount_approved_hkd, 0)) as amount_approved_hkd
    from grouped
    group by extract(year from received_on), programme_group, dimension, dimension_value
),

judged as (
    select
        counted.*,
        sum(counted.pending_count) over (
            partition by counted.received_year, counted.programme, counted.dimension
        ) > 0
        or counted.received_year >= extract(year from coalesce(open_build.last_complete_date, cast('1900-01-01' as date)))
            as is_provisional,
        counted.received_year > history.first_year as is_fully_covered,
        open_build.last_complete_date,
        open_build.release_no
    from counted
    cross join history
    cross join open_build
),

final as (
    select
        received_year,
        programme,
        dimension,
        dimension_value,
        cast(application_count as bigint) as application_count,
        cast(approved_count as bigint) as approved_count,
        cast(rejected_count as bigint) as rejected_count,
        cast(withdrawn_count as bigint) as withdrawn_count,
        cast(pending_count as bigint) as pending_count,
        cast(decided_count as bigint) as decided_count,
        cast({{ shown_from('decided_count', 'approved_count * 1.0 / decided_count') }} as numeric(7, 4)) as approval_rate,
        cast({{ shown_from('decided_count', 'median_processing_days') }} as numeric(7, 1)) as median_processing_days,
        cast(amount_applied_hkd as numeric(20, 2)) as amount_applied_hkd,
        cast(amount_approved_hkd as numeric(20, 2)) as amount_approved_hkd,
        is_provisional,
        is_fully_covered,
        {{ is_quotable('is_provisional', 'is_fully_covered') }} as is_quotable,
        last_complete_date,
        release_no
    from judged
)

select * from final
