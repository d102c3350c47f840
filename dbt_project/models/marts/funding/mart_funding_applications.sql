-- One row per application to the BUD Fund or EMF: how it ended, how long it took, and who applied. Industry and size are
-- those on the register now, not on the day of the application.
{{ config(indexes=[{'columns': ['sme_id']}]) }}

with applications as (
    select * from {{ ref('int_funding__applications') }}
),

smes as (
    select * from {{ ref('dim_sme') }}
),

countries as (
    select * from {{ ref('csd_countries') }}
),

open_build as (
    {{ release_columns(['funding_applications', 'funding_payments']) }}
),

final as (
    select
        applications.application_no,
        applications.sme_id,
        applications.funding_scheme,
        applications.programme,
        applications.received_on,
        countries.csd_code as market_csd_code,
        applications.market_iso2_code,
        applications.purpose as funding_purpose,
        applications.platform as funded_platform,
        coalesce(smes.industry_section, 'unknown') as industry_section,
        coalesce(smes.sme_class, 'unknown') as sme_class,
        applications.status as application_status,
        applications.outcome,
        applications.decided_on,
        cast(applications.processing_days as integer) as processing_days,
        cast(applications.amount_applied_hkd as numeric(20, 2)) as amount_applied_hkd,
        cast(applications.amount_approved_hkd as numeric(20, 2)) as amount_approved_hkd,
        cast(applications.paid_hkd as numeric(20, 2)) as paid_hkd,
        applications.project_start_on,
        applications.project_end_on,
        applications.is_first_of_enterprise,
        applications.is_first_of_programme,
        applications.outcome = 'pending' as is_provisional,
        open_build.last_complete_date,
        open_build.release_no
    from applications
    cross join open_build
    left join smes on applications.sme_id = smes.sme_id
    left join countries on applications.market_iso2_code = countries.iso2_code
)

select * from final
