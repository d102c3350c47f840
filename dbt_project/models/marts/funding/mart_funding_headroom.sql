-- One row per SME, scheme and period in which neither its grants nor a rule changed: what it was granted, and what one more
-- application received in that period could be granted under the rules then in force, if it is live on the register. Drafts and
-- applications not yet decided are not counted against it, but Easy BUD takes no other one for some months; an SME that never
-- applied has the period of the release day only: any other day is in mart_funding_headroom_any_day.
with headroom as (
    select * from {{ ref('int_funding__headroom') }}
),

applications as (
    select * from {{ ref('int_funding__applications') }}
),

history as (
    select min(received_on) as history_from from applications
),

open_build as (
    {{ release_columns(['funding_applications', 'funding_payments']) }}
),

final as (
    select
        headroom.sme_id,
        headroom.funding_scheme,
        headroom.valid_from,
        headroom.valid_to,
        {{ in_force_on('headroom', 'open_build.as_of_date') }} as is_current,
        headroom.has_applied,
        headroom.is_open,
        headroom.applicant_status,
        cast(headroom.government_share_pct as numeric(5, 2)) as government_share_pct,
        cast(headroom.cumulative_ceiling_hkd as numeric(20, 2)) as cumulative_ceiling_hkd,
        cast(headroom.in_force_cap_hkd as numeric(20, 2)) as in_force_cap_hkd,
        cast(headroom.project_count as integer) as project_count,
        cast(headroom.granted_hkd as numeric(20, 2)) as granted_hkd,
        cast(headroom.in_force_hkd as numeric(20, 2)) as in_force_hkd,
        cast(headroom.in_force_capped_hkd as numeric(20, 2)) as in_force_capped_hkd,
        cast(headroom.headroom_hkd as numeric(20, 2)) as headroom_hkd,
        cast(headroom.bud_general_headroom_hkd as numeric(20, 2)) as bud_general_headroom_hkd,
        cast(headroom.bud_easy_headroom_hkd as numeric(20, 2)) as bud_easy_headroom_hkd,
        cast(headroom.bud_ecommerce_easy_headroom_hkd as numeric(20, 2)) as bud_ecommerce_easy_headroom_hkd,
        cast(headroom.emf_headroom_hkd as numeric(20, 2)) as emf_headroom_hkd,
        history.history_from,
        open_build.as_of_date,
        open_build.last_complete_date,
        {{ headroom_note() }} as coverage_note,
        open_build.release_no
    from headroom
    cross join history
    cross join open_build
)

select * from final
