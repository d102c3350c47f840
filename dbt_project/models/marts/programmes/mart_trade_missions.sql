-- One row per event and participant of a trade mission. Meetings and expected orders are what participants answered after the
-- event; half do not answer.
{{ config(indexes=[{'columns': ['sme_id']}]) }}

with missions as (
    select * from {{ ref('int_missions__versioned') }} where is_current
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'mission'
),

countries as (
    select * from {{ ref('csd_countries') }}
),

open_build as (
    {{ release_columns(['trade_missions']) }}
),

final as (
    select
        missions.event_id,
        missions.participant_no,
        missions.event_name,
        missions.market_code as market_csd_code,
        countries.iso2_code as market_iso2_code,
        missions.starts_on,
        missions.ends_on,
        missions.enterprise_name,
        links.sme_id,
        coalesce(links.link_basis, 'none') as link_basis,
        missions.status as attendance_status,
        cast(missions.meetings as integer) as meeting_count,
        cast(missions.expected_orders_hkd as numeric(20, 2)) as expected_orders_hkd,
        open_build.last_complete_date,
        open_build.release_no
    from missions
    cross join open_build
    left join links on links.source_key = {{ dbt.concat(["missions.event_id", "':'", "missions.participant_no"]) }}
    left join countries on missions.market_code = countries.csd_code
)

select * from final
