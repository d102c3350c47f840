-- One row per policy, month of shipment and year of cover: what was declared under that year of cover, and the premium at the
-- rate of the day of shipment. Shipments outside of every year of cover that HKECIC reported have none.
{{
    config(
        incremental_strategy='replace_changed',
        changed='int_insurance__cover_changed',
        changed_key=['policy_no', 'month'],
        indexes=[{'columns': ['policy_no', 'month']}]
    )
}}

with shipments as (
    select
        versions.*,
        {{ month_of('versions.shipped_on') }} as month
    from {{ ref('int_insurance__shipments_versioned') }} as versions
    where versions.is_current
),

terms as (
    select * from {{ ref('int_insurance__terms') }}
),

changed as (
    select * from {{ ref('int_insurance__cover_changed') }}
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
        shipments.policy_no,
        shipments.month,
        terms.cover_start_on,
        sum(shipments.invoice_value_hkd) as declared_value_hkd,
        sum(shipments.invoice_value_hkd * terms.premium_rate_pct / 100) as premium_hkd,
        sum(case when shipments.is_ecommerce then shipments.invoice_value_hkd else 0 end) as ecommerce_declared_value_hkd,
        count(*) as shipment_count,
        sum(case when shipments.overdue_reported_on is not null then 1 else 0 end) as overdue_shipment_count,
        sum(case when shipments.overdue_reported_on is not null then shipments.invoice_value_hkd else 0 end)
            as overdue_value_hkd
    from changed_shipments as shipments
    left join terms
        on
            shipments.policy_no = terms.policy_no
            and shipments.shipped_on between terms.terms_from and terms.terms_to
    group by shipments.policy_no, shipments.month, terms.cover_start_on
)

select * from final
