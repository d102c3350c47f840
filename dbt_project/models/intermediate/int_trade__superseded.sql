-- One row per line of merchandise, version and batch that is no more current: since when. A line ends with the first later version
-- of its declaration, or with a later delivery of itself; what came when it had ended already ends on the day it came.
{{
    config(
        unique_key=['declaration_no'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['declaration_no']}]
    )
}}

with open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

gold_codes as (
    select * from {{ ref('gold_codes') }}
),

lines as (
    select *
    from {{ ref('int_customs__lines_versioned') }}
    {%- if is_incremental() %}
        where build_no = (select open_build.build_no from open_build)
    {%- endif %}
),

amended as (
    select distinct declaration_no
    from lines
    where not is_current
),

amended_lines as (
    select lines.*
    from lines
    inner join amended on lines.declaration_no = amended.declaration_no
),

known_versions as (
    select
        declaration_no,
        version,
        min(business_date) as known_on
    from amended_lines
    group by declaration_no, version
),

ended_versions as (
    select
        declaration_no,
        version,
        min(known_on) over (
            partition by declaration_no order by version rows between 1 following and unbounded following
        ) as ended_on
    from known_versions
),

followed_lines as (
    select
        amended_lines.*,
        lead(business_date) over (
            partition by declaration_no, version, line_no order by business_date, received_at, batch_id
        ) as redelivered_on
    from amended_lines
),

final as (
    select
        followed_lines.declaration_no,
        followed_lines.version,
        followed_lines.line_no,
        followed_lines.batch_id,
        {{ month_of('followed_lines.movement_date') }} as month,
        {{ flow_of('followed_lines.form_type', 'followed_lines.origin_country_code') }} as flow,
        followed_lines.value_hkd,
        greatest(
            followed_lines.business_date,
            least(
                coalesce(ended_versions.ended_on, followed_lines.redelivered_on),
                coalesce(followed_lines.redelivered_on, ended_versions.ended_on)
            )
        ) as ended_on
    from followed_lines
    inner join ended_versions
        on followed_lines.declaration_no = ended_versions.declaration_no and followed_lines.version = ended_versions.version
    left join gold_codes on followed_lines.hkhs_code = gold_codes.hkhs_code
    where not followed_lines.is_current and gold_codes.hkhs_code is null
)

select * from final
