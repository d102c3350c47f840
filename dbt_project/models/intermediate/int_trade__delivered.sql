-- One row per batch, month of movement and flow: what was delivered of merchandise, whether it is current or not.
{{
    config(
        unique_key=['batch_id'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['batch_id']}]
    )
}}

with open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

-- A build changes every row that it takes in, so the number of the build finds them without reading the rest.
lines as (
    select *
    from {{ ref('int_customs__lines_versioned') }}
    where
        {{ in_build('customs_declarations') }}
        {%- if is_incremental() %}
            and build_no = (select open_build.build_no from open_build)
        {%- endif %}
),

gold_codes as (
    select * from {{ ref('gold_codes') }}
),

marked as (
    select
        lines.batch_id,
        lines.business_date,
        {{ month_of('lines.movement_date') }} as month,
        {{ flow_of('lines.form_type', 'lines.origin_country_code') }} as flow,
        lines.value_hkd
    from lines
    left join gold_codes on lines.hkhs_code = gold_codes.hkhs_code
    where gold_codes.hkhs_code is null
),

final as (
    select
        batch_id,
        business_date,
        month,
        flow,
        sum(value_hkd) as value_hkd,
        count(*) as line_count
    from marked
    group by batch_id, business_date, month, flow
)

select * from final
