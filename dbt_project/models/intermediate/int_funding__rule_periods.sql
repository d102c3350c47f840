-- One row per scheme and period in which no rule of it changed: what an application received then is under, and which of its rules
-- do not rest on an official page. The period after the last rule of a scheme has none: whether it takes applications then is
-- known only where the end is official.
{{ config(materialized='view') }}

with rules as (
    select
        funding_rules.*,
        case
            when programme = 'all' then rule
            else {{ dbt.concat(["programme", "'_'", "rule"]) }}
        end as name
    from {{ ref('funding_rules') }} as funding_rules
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

ended as (
    select
        funding_scheme,
        cast({{ dbt.dateadd('day', 1, 'valid_to') }} as date) as valid_from,
        min(case when legal_source_class = 'official' and certainty = 'known' then 1 else 0 end) = 1 as is_official
    from rules
    where valid_to is not null
    group by funding_scheme, valid_to
),

in_force as (
    select
        periods.funding_scheme,
        periods.valid_from,
        periods.valid_to,
        rules.value,
        rules.name as rule,
        rules.legal_source_class,
        rules.certainty,
        rules.source
    from periods
    left join rules on periods.funding_scheme = rules.funding_scheme and {{ in_force_on('rules', 'periods.valid_from') }}
),

pivoted as (
    select
        funding_scheme,
        valid_from,
        valid_to,
        count(rule) as rule_count,
        max(case when rule = 'cumulative_ceiling_hkd' then value end) as cumulative_ceiling_hkd,
        max(case when rule = 'regional_ceiling_hkd' then value end) as regional_ceiling_hkd,
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
        max(case when rule = 'emf_application_cap_hkd' then value end) as emf_application_cap_hkd,
        {{ dbt.listagg("case when legal_source_class <> 'official' then rule end", "', '", "order by rule") }} as second_hand_rules,
        {{ dbt.listagg("case when certainty = 'assumed' then rule end", "', '", "order by rule") }} as assumed_rules,
        {{ dbt.listagg(dbt.concat(["rule", "': '", "source"]), "'; '", "order by rule") }} as sources
    from in_force
    group by funding_scheme, valid_from, valid_to
),

final as (
    select
        pivoted.*,
        case when pivoted.rule_count > 0 then true when ended.is_official then false end as is_open
    from pivoted
    left join ended
        on pivoted.funding_scheme = ended.funding_scheme and pivoted.valid_from = ended.valid_from
)

select * from final
