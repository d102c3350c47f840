-- One row per SME that applied for funding: its first project, when it began, and when the first application that was granted
-- by then was received, since a project may begin to have effect from that day. Empty while nothing was granted.
{{ config(materialized='table') }}

with applications as (
    select * from {{ ref('int_funding__applications') }} where sme_id is not null
),

projects as (
    select
        *,
        row_number() over (partition by sme_id order by project_start_on, application_no) as position
    from applications
    where outcome = 'approved' and project_start_on is not null
),

first_projects as (
    select
        sme_id,
        programme,
        project_start_on
    from projects
    where position = 1
),

final as (
    select
        applications.sme_id,
        min(first_projects.programme) as programme,
        -- Some programmes take applications after the event that they fund.
        {{ month_of("least(min(first_projects.project_start_on), min(projects.received_on))") }} as applied_month,
        {{ month_of('min(first_projects.project_start_on)') }} as start_month
    from applications
    left join first_projects on applications.sme_id = first_projects.sme_id
    left join projects
        on
            applications.application_no = projects.application_no
            and first_projects.project_start_on >= projects.project_start_on
    group by applications.sme_id
)

select * from final
