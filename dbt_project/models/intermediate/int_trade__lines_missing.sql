-- One row per declaration whose lines are published in part, others of the same version being in quarantine: how many are
-- missing, and what they declare. It stands where the declaration is counted, at its first published line.
{{ config(materialized='table') }}

with batches as (
    select * from {{ ref('stg_ops__batches') }} where feed = 'customs_declarations'
),

current_lines as (
    select * from {{ ref('int_customs__lines_versioned') }} where is_current
),

quarantined as (
    select
        {{ json_text('record.fields', 'declaration_no') }} as declaration_no,
        {{ json_text('record.fields', 'version') }} as version,
        {{ json_text('record.fields', 'line_no') }} as line_no,
        max({{ json_number('record.fields', 'value_hkd') }}) as value_hkd
    from {{ source('quarantine', 'record') }} as record
    inner join batches on record.batch_id = batches.batch_id
    where record.feed = 'customs_declarations' and record.state = 'open'
    group by
        {{ json_text('record.fields', 'declaration_no') }},
        {{ json_text('record.fields', 'version') }},
        {{ json_text('record.fields', 'line_no') }}
),

named as (
    select distinct declaration_no from quarantined
),

siblings as (
    select
        current_lines.*,
        row_number() over (partition by current_lines.declaration_no order by current_lines.line_no) as position
    from current_lines
    inner join named on current_lines.declaration_no = named.declaration_no
),

missing as (
    select quarantined.*
    from quarantined
    left join siblings
        on
            quarantined.declaration_no = siblings.declaration_no
            and quarantined.version = cast(siblings.version as {{ dbt.type_string() }})
            and quarantined.line_no = cast(siblings.line_no as {{ dbt.type_string() }})
    where siblings.declaration_no is null
),

final as (
    select
        siblings.declaration_no,
        siblings.trader_id,
        {{ month_of('siblings.movement_date') }} as month,
        {{ flow_of('siblings.form_type', 'siblings.origin_country_code') }} as flow,
        siblings.counterparty_country_code as market_csd_code,
        substring(siblings.hkhs_code, 1, 2) as hs_chapter,
        count(*) as missing_line_count,
        coalesce(sum(missing.value_hkd), 0) as missing_value_hkd
    from missing
    inner join siblings
        on
            missing.declaration_no = siblings.declaration_no
            and missing.version = cast(siblings.version as {{ dbt.type_string() }})
            and siblings.position = 1
    group by
        siblings.declaration_no,
        siblings.trader_id,
        {{ month_of('siblings.movement_date') }},
        {{ flow_of('siblings.form_type', 'siblings.origin_country_code') }},
        siblings.counterparty_country_code,
        substring(siblings.hkhs_code, 1, 2)
)

select * from final
