-- One row per scheme and period in which no rule of it changed: shares, ceilings and caps for applications received then, where
-- each was read, and which of them no official page gives.
with periods as (
    select * from {{ ref('int_funding__rule_periods') }}
),

open_build as (
    {{ release_columns() }}
),

final as (
    select
        periods.funding_scheme,
        periods.valid_from,
        periods.valid_to,
        periods.is_open,
        cast(periods.government_share_pct as numeric(5, 2)) as government_share_pct,
        cast(periods.cumulative_ceiling_hkd as numeric(20, 2)) as cumulative_ceiling_hkd,
        cast(periods.regional_ceiling_hkd as numeric(20, 2)) as regional_ceiling_hkd,
        cast(periods.cumulative_ceiling_projects as integer) as cumulative_ceiling_project_count,
        cast(periods.in_force_cap_hkd as numeric(20, 2)) as in_force_cap_hkd,
        cast(periods.initial_payment_pct as numeric(5, 2)) as initial_payment_pct,
        cast(periods.bud_general_application_cap_hkd as numeric(20, 2)) as bud_general_application_cap_hkd,
        cast(periods.bud_easy_application_cap_hkd as numeric(20, 2)) as bud_easy_application_cap_hkd,
        periods.bud_easy_months_between_applications,
        cast(periods.bud_ecommerce_easy_application_cap_hkd as numeric(20, 2)) as bud_ecommerce_easy_application_cap_hkd,
        cast(periods.emf_application_cap_hkd as numeric(20, 2)) as emf_application_cap_hkd,
        coalesce(periods.second_hand_rules, '') as second_hand_rules,
        coalesce(periods.assumed_rules, '') as assumed_rules,
        coalesce(periods.sources, '') as sources,
        cast(
            case
                when periods.is_open is null then 'that the scheme takes no application any more is second hand'
                when periods.bud_ecommerce_easy_application_cap_hkd is not null
                    then 'since when E-commerce Easy has been open to ASEAN is not known; it began with the Mainland'
                when periods.regional_ceiling_hkd is not null
                    then 'the Mainland and the other markets had a ceiling each; ceilings are over both'
                else 'applications received in the period'
            end as {{ dbt.type_string() }}
        ) as coverage_note,
        open_build.release_no
    from periods
    cross join open_build
)

select * from final
