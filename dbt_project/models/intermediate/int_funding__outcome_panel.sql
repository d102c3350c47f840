-- One row per measure, month in which funding began and enterprise: what it sold in the 12 months before and after, if its
-- first project began in that month, or if it is alike and had none until those 12 months were over. Alike: same industry,
-- same size class, and sales before within the same power of two. The month itself is left out.
{{ config(materialized='table') }}

{%- set window_months = 12 %}

with applications as (
    select * from {{ ref('int_funding__applications') }}
),

sales as (
    select * from {{ ref('int_sales__monthly') }}
),

smes as (
    select * from {{ ref('dim_sme') }}
),

coverage as (
    select * from {{ ref('int_feeds__completeness') }}
),

projects as (
    select
        sme_id,
        programme,
        {{ month_of('project_start_on') }} as start_month,
        row_number() over (partition by sme_id order by project_start_on, application_no) as position
    from applications
    where outcome = 'approved' and project_start_on is not null
),

first_projects as (
    select * from projects where position = 1
),

-- A month counts when the feed was there from its first day, and 14 days after its last: what came late is in it.
spans as (
    select
        case when feed = 'customs_declarations' then 'exports' else 'online_net_sales' end as measure,
        cast({{ dbt.dateadd('month', 1, month_of('first_date')) }} as date) as first_month,
        cast({{ dbt.dateadd('month', -1, month_of(dbt.dateadd('day', -13, 'last_complete_date'))) }} as date) as last_month
    from coverage
    where feed in ('customs_declarations', 'platform_orders')
),

cohorts as (
    select distinct
        spans.measure,
        first_projects.start_month,
        cast({{ dbt.dateadd('month', -window_months, 'first_projects.start_month') }} as date) as first_month,
        cast({{ dbt.dateadd('month', -6, 'first_projects.start_month') }} as date) as halfway_month,
        cast({{ dbt.dateadd('month', window_months, 'first_projects.start_month') }} as date) as last_month
    from first_projects
    cross join spans
    where
        {{ dbt.dateadd('month', -window_months, 'first_projects.start_month') }} >= spans.first_month
        and {{ dbt.dateadd('month', window_months, 'first_projects.start_month') }} <= spans.last_month
),

windows as (
    select
        cohorts.measure,
        cohorts.start_month,
        cohorts.last_month,
        sales.sme_id,
        sum(case when sales.month < cohorts.halfway_month then sales.value_hkd else 0 end) as before_early_hkd,
        sum(
            case when sales.month >= cohorts.halfway_month and sales.month < cohorts.start_month then sales.value_hkd else 0 end
        ) as before_late_hkd,
        sum(case when sales.month > cohorts.start_month then sales.value_hkd else 0 end) as after_hkd
    from cohorts
    inner join sales
        on
            cohorts.measure = sales.measure
            and sales.month between cohorts.first_month and cohorts.last_month
    group by cohorts.measure, cohorts.start_month, cohorts.last_month, sales.sme_id
),

active as (
    select
        windows.*,
        windows.before_early_hkd + windows.before_late_hkd as before_hkd
    from windows
    where windows.before_early_hkd + windows.before_late_hkd > 0
),

candidates as (
    select
        active.measure,
        active.start_month,
        active.sme_id,
        first_projects.sme_id is not null and first_projects.start_month = active.start_month as is_funded,
        case when first_projects.start_month = active.start_month then first_projects.programme end as programme,
        coalesce(smes.industry_section, 'unknown') as industry_section,
        smes.sme_class,
        cast(floor(ln(active.before_hkd) / ln(2)) as integer) as size_of_sales,
        cast(active.before_early_hkd as numeric(20, 2)) as before_early_hkd,
        cast(active.before_late_hkd as numeric(20, 2)) as before_late_hkd,
        cast(active.after_hkd as numeric(20, 2)) as after_hkd
    from active
    inner join smes on active.sme_id = smes.sme_id
    left join first_projects on active.sme_id = first_projects.sme_id
    where
        coalesce(smes.is_sme, true)
        and (
            first_projects.sme_id is null
            or first_projects.start_month = active.start_month
            or first_projects.start_month > active.last_month
        )
),

strata as (
    select
        measure,
        start_month,
        industry_section,
        sme_class,
        size_of_sales,
        sum(case when is_funded then 1 else 0 end) as funded_count,
        sum(case when is_funded then 0 else 1 end) as unfunded_count
    from candidates
    group by measure, start_month, industry_section, sme_class, size_of_sales
),

final as (
    select
        candidates.*,
        strata.unfunded_count > 0 as is_matched
    from candidates
    inner join strata
        on
            candidates.measure = strata.measure
            and candidates.start_month = strata.start_month
            and candidates.industry_section = strata.industry_section
            and candidates.sme_class = strata.sme_class
            and candidates.size_of_sales = strata.size_of_sales
    where strata.funded_count > 0
)

select * from final
