-- One row per measure, length of the windows and funded SME: whom mart_funding_outcomes compares, with what it sold before it
-- applied and after its first project began, and why another is left out.
with enterprises as (
    select * from {{ ref('int_funding__outcome_enterprises') }}
),

open_build as (
    {{ release_columns(['funding_applications', 'customs_declarations', 'platform_orders', 'business_register']) }}
),

final as (
    select
        enterprises.measure,
        enterprises.window_months,
        enterprises.sme_id,
        enterprises.programme,
        enterprises.applied_month,
        enterprises.start_month,
        enterprises.industry_section,
        enterprises.sme_class,
        enterprises.existed_before,
        cast(case when enterprises.is_known then enterprises.before_hkd end as numeric(20, 2)) as before_hkd,
        cast(case when enterprises.is_known then enterprises.after_hkd end as numeric(20, 2)) as after_hkd,
        cast(enterprises.paid_hkd as numeric(20, 2)) as paid_hkd,
        enterprises.exclusion,
        open_build.last_complete_date,
        open_build.release_no
    from enterprises
    cross join open_build
)

select * from final
