-- One row per scheme and period in which no rule of it changed: what an application received then is under.
{{ config(materialized='view') }}

with rules as (
    select * from {{ ref('funding_rules') }}
),

changes as (
    select
        funding_scheme,
        valid_from as changed_on
    from rules
    union distinct
    select
        funding_scheme,
        cast({{ dbt.dateadd('day', 1, 'valid_to') }} as date) as changed_on
    from rules
    where valid_to is not null
),

periods as (
    select
        funding_scheme,
        changed_on as valid_from,
        cast(
            {{ dbt.dateadd('day', -1, 'lead(changed_on) over (partition by funding_scheme order by changed_on)') }} as date
        ) as valid_to
    from changes
),

in_force as (
    select
        periods.funding_scheme,
        periods.valid_from,
        periods.valid_to,
        rules.value,
        case
            when rules.programme = 'all' then rules.rule
            else {{ dbt.concat(["rules.programme", "'_'", "rules.rule"]) }}
        end as rule
    from periods
    inner join rules on periods.funding_scheme = rules.funding_scheme and {{ in_force_on('rules', 'periods.valid_from') }}
),

final as (
    select
        funding_scheme,
        valid_from,
        valid_to,
        max(case when rule = 'cumulative_ceiling_hkd' then value end) as cumulative_ceiling_hkd,
        max(case when rule = 'cumulative_ceiling_projects' then value end) as cumulative_ceiling_projects,
        max(case when rule = 'government_share_pct' then value end) as government_share_pct,
        max(case when rule = 'in_force_cap_hkd' then value end) as in_force_cap_hkd,
        max(case when rule = 'initial_payment_pct' then value end) as initial_payment_pct,
        max(case when rule = 'bud_general_application_cap_hkd' then value end) as bud_general_application_cap_hkd,
        max(case when rule = 'bud_easy_application_cap_hkd' then value end) as bud_easy_application_cap_hkd,
        cast(max(case when rule = 'bud_easy_months_between_applications' then value end) as integer)
            as bud_easy_months_between_applications,
        max(case when rule = 'bud_ecommerce_easy_application_cap_hkd' then value end)
            as bud_ecommerce_easy_application_cap_hkd,
        max(case when rule = 'emf_application_cap_hkd' then value end) as emf_application_cap_hkd
    from in_force
    group by funding_scheme, valid_from, valid_to
)

select * from final
