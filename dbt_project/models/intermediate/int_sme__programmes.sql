-- One row per enterprise that a programme reached by the release day, with what it had of each.
{{ config(materialized='table', indexes=[{'columns': ['sme_id'], 'unique': true}]) }}

with links as (
    select * from {{ ref('int_sme__linked') }}
),

headroom as (
    select * from {{ ref('int_funding__headroom') }}
),

policies as (
    select * from {{ ref('int_insurance__policies_versioned') }} where is_current
),

participants as (
    select * from {{ ref('int_festival__participants') }}
),

missions as (
    select * from {{ ref('int_missions__versioned') }} where is_current
),

gallery as (
    select * from {{ ref('int_gallery__daily') }}
),

marks as (
    select * from {{ ref('int_marks__current') }} where is_valid
),

open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

reached as (
    select
        headroom.sme_id,
        headroom.funding_scheme as programme,
        headroom.project_count as things
    from headroom
    inner join open_build on {{ in_force_on('headroom', 'open_build.as_of_date') }}
    where headroom.project_count > 0
    union all
    select
        links.sme_id,
        'hkecic' as programme,
        count(*) as things
    from policies
    inner join links on links.source = 'number' and policies.brn = links.source_key
    group by links.sme_id
    union all
    select
        links.sme_id,
        'festival' as programme,
        count(distinct participants.event_id) as things
    from participants
    inner join links
        on links.source = 'shop' and links.source_key = {{ shop_key('participants') }}
    -- Merchants join weeks ahead.
    inner join open_build on participants.first_day <= open_build.as_of_date
    group by links.sme_id
    union all
    select
        links.sme_id,
        'mission' as programme,
        count(*) as things
    from missions
    inner join links
        on
            links.source = 'mission'
            and links.source_key = {{ dbt.concat(["missions.event_id", "':'", "missions.participant_no"]) }}
    where missions.status = 'attended'
    group by links.sme_id
    union all
    select
        links.sme_id,
        'gallery' as programme,
        count(distinct gallery.day) as things
    from gallery
    inner join links on links.source = 'number' and gallery.supplier_brn = links.source_key
    group by links.sme_id
    union all
    select
        sme_id,
        'mark' as programme,
        count(*) as things
    from marks
    where sme_id is not null
    group by sme_id
),

final as (
    select
        sme_id,
        sum(case when programme = 'bud' then things else 0 end) as bud_project_count,
        sum(case when programme = 'emf' then things else 0 end) as emf_project_count,
        sum(case when programme = 'hkecic' then things else 0 end) as policy_count,
        sum(case when programme = 'festival' then things else 0 end) as festival_count,
        sum(case when programme = 'mission' then things else 0 end) as mission_count,
        sum(case when programme = 'gallery' then things else 0 end) as gallery_sale_day_count,
        sum(case when programme = 'mark' then things else 0 end) as valid_mark_count
    from reached
    group by sme_id
)

select * from final
