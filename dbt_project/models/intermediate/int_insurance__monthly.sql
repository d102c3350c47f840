-- One row per policy, month of shipment, country of the buyer and HKHS chapter, from the shipments as they stand.
{{
    config(
        incremental_strategy='replace_changed',
        changed='int_insurance__changed',
        changed_key=['policy_no', 'month'],
        indexes=[{'columns': ['policy_no', 'month', 'buyer_country_code', 'hs_chapter'], 'unique': true}]
    )
}}

with shipments as (
    select
        versions.*,
        {{ month_of('versions.shipped_on') }} as month
    from {{ ref('int_insurance__shipments_versioned') }} as versions
    where versions.is_current
),

changed as (
    select * from {{ ref('int_insurance__changed') }}
),

changed_shipments as (
    select shipments.*
    from shipments
    {%- if is_incremental() %}
    inner join changed on shipments.policy_no = changed.policy_no and shipments.month = changed.month
    where shipments.shipped_on >= (select min(all_changed.month) from changed as all_changed)
    {%- endif %}
),

final as (
    select
        policy_no,
        month,
        buyer_country_code,
        substring(hs_code, 1, 2) as hs_chapter,
        sum(invoice_value_hkd) as insured_value_hkd,
        sum(case when is_ecommerce then invoice_value_hkd else 0 end) as ecommerce_insured_value_hkd,
        count(*) as shipment_count,
        sum(case when overdue_reported_on is not null then 1 else 0 end) as overdue_shipment_count,
        sum(case when overdue_reported_on is not null then invoice_value_hkd else 0 end) as overdue_value_hkd
    from changed_shipments
    group by policy_no, month, buyer_country_code, substring(hs_code, 1, 2)
)

select * from final
