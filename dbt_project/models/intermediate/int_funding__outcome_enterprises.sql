-- One row per measure, length of the windows and funded SME: what it sold in the months before it applied and after its first
-- project began, what it was when it applied, and why it is not compared.
{{ config(materialized='table') }}

{%- set windows = [6, 12] %}

with applicants as (
    select * from {{ ref('int_funding__applicants') }} where start_month is not null
),

applications as (
    select * from {{ ref('int_funding__applications') }}
),

spans as (
    select * from {{ ref('int_funding__outcome_spans') }}
),

sales as (
    select * from {{ ref('int_funding__outcome_panel') }}
),

classes as (
    select * from {{ ref('int_sme__classes') }}
),

history as (
    select min(received_on) as history_from from applications
),

windows as (
    {%- for months in windows %}
        select
            {{ months }} as window_months,
            spans.measure,
            spans.first_month as first_known_month,
            spans.last_month as last_known_month,
            applicants.*,
            cast({{ dbt.dateadd('month', -months, 'applicants.applied_month') }} as date) as first_month,
            cast({{ dbt.dateadd('month', months, 'applicants.start_month') }} as date) as last_month
        from applicants
        cross join spans
        {%- if not loop.last %}
            union all
        {%- endif %}
    {%- endfor %}
),

sold as (
    select
        windows.measure,
        windows.window_months,
        windows.sme_id,
        sum(case when sales.month < windows.applied_month then sales.value_hkd else 0 end) as before_hkd,
        sum(case when sales.month > windows.start_month then sales.value_hkd else 0 end) as after_hkd
    from windows
    inner join sales
        on
            windows.measure = sales.measure
            and windows.sme_id = sales.sme_id
            and sales.month between windows.first_month and windows.last_month
    group by windows.measure, windows.window_months, windows.sme_id
),

paid as (
    select
        windows.measure,
        windows.window_months,
        windows.sme_id,
        sum(applications.paid_hkd) as paid_hkd
    from windows
    inner join applications
        on windows.sme_id = applications.sme_id and {{ month_of('applications.project_start_on') }} <= windows.last_month
    where applications.outcome = 'approved'
    group by windows.measure, windows.window_months, windows.sme_id
),

final as (
    select
        windows.measure,
        windows.window_months,
        windows.sme_id,
        windows.programme,
        windows.applied_month,
        windows.start_month,
        classes.industry_section,
        classes.sme_class,
        coalesce(classes.commencement_date < history.history_from, true) as existed_before,
        cast(coalesce(sold.before_hkd, 0) as numeric(20, 2)) as before_hkd,
        cast(coalesce(sold.after_hkd, 0) as numeric(20, 2)) as after_hkd,
        cast(coalesce(paid.paid_hkd, 0) as numeric(20, 2)) as paid_hkd,
        windows.first_month >= windows.first_known_month and windows.last_month <= windows.last_known_month as is_known,
        case
            when windows.first_month < windows.first_known_month then 'sales_before_unknown'
            when windows.last_month > windows.last_known_month then 'window_not_over'
            when not classes.counts_as_sme then 'not_an_sme'
            when classes.commencement_date > windows.first_month then 'began_within_window'
            when coalesce(sold.before_hkd, 0) <= 0 and coalesce(sold.after_hkd, 0) <= 0 then 'no_sales'
        end as exclusion
    from windows
    cross join history
    inner join classes
        on windows.sme_id = classes.sme_id and {{ in_force_on('classes', 'windows.applied_month') }}
    left join sold
        on
            windows.measure = sold.measure
            and windows.window_months = sold.window_months
            and windows.sme_id = sold.sme_id
    left join paid
        on
            windows.measure = paid.measure
            and windows.window_months = paid.window_months
            and windows.sme_id = paid.sme_id
)

select * from final
