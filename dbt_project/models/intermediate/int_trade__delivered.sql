-- One row per batch, month of movement and flow: what was delivered, whether it is current or not.
{{
    config(
        unique_key=['batch_id'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['batch_id']}]
    )
}}

with lines as (
    select * from {{ ref('stg_customs__declarations') }} where {{ in_build('customs_declarations') }}
),

marked as (
    select
        batch_id,
        business_date,
        {{ month_of('movement_date') }} as month,
        {{ flow_of('form_type', 'origin_country_code') }} as flow,
        value_hkd
    from lines
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
