-- One row per scheme and period in which no rule of it changed: shares, ceilings and caps for applications received then.
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
        cast(periods.government_share_pct as numeric(5, 2)) as government_share_pct,
        cast(periods.cumulative_ceiling_hkd as numeric(20, 2)) as cumulative_ceiling_hkd,
        cast(periods.cumulative_ceiling_projects as integer) as cumulative_ceiling_project_count,
        cast(periods.in_force_cap_hkd as numeric(20, 2)) as in_force_cap_hkd,
        cast(periods.initial_payment_pct as numeric(5, 2)) as initial_payment_pct,
        cast(periods.bud_general_application_cap_hkd as numeric(20, 2)) as bud_general_application_cap_hkd,
        cast(periods.bud_easy_application_cap_hkd as numeric(20, 2)) as bud_easy_application_cap_hkd,
        periods.bud_easy_months_between_applications,
        cast(periods.bud_ecommerce_easy_application_cap_hkd as numeric(20, 2)) as bud_ecommerce_easy_application_cap_hkd,
        cast(periods.emf_application_cap_hkd as numeric(20, 2)) as emf_application_cap_hkd,
        open_build.release_no
    from periods
    cross join open_build
)

select * from final
