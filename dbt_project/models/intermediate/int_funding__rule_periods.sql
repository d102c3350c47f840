-- One row per scheme and period in which no rule of it changed: what an application received then is under.
{{ config(materialized='view') }}

with rules as (
    select * from {{ ref('funding_rules') }}
),

changes as (
    select scheme, valid_from as changed_on from rules
    union distinct
    select scheme, cast({{ dbt.dateadd('day', 1, 'valid_to') }} as date) as changed_on from rules where valid_to is not null
),

periods as (
    select
        scheme,
        changed_on as valid_from,
        cast(
            {{ dbt.dateadd('day', -1, 'lead(changed_on) over (partition by scheme order by changed_on)') }} as date
        ) as valid_to
    from changes
),

final as (
    select
        periods.scheme,
        periods.valid_from,
        periods.valid_to,
        {%- for rule in [
            'cumulative_ceiling_hkd', 'cumulative_ceiling_projects', 'government_share_pct', 'in_force_cap_hkd',
            'initial_payment_pct'
        ] %}
        max(case when rules.rule = '{{ rule }}' then rules.value end) as {{ rule }},
        {%- endfor %}
        {%- for programme in ['bud_general', 'bud_easy', 'bud_ecommerce_easy', 'emf'] %}
        max(
            case when rules.rule = 'application_cap_hkd' and rules.programme = '{{ programme }}' then rules.value end
        ) as {{ programme }}_application_cap_hkd{{ ',' if not loop.last }}
        {%- endfor %}
    from periods
    inner join rules on periods.scheme = rules.scheme and {{ in_force_on('rules', 'periods.valid_from') }}
    group by periods.scheme, periods.valid_from, periods.valid_to
)

select * from final
