-- One row per declaration, version and line of each batch. Values are CIF for imports and FOB for exports.
with deliveries as (
    select * from {{ source('raw', 'customs_declarations') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.declaration_no,
        deliveries.version,
        deliveries.line_no,
        deliveries.form_type,
        deliveries.lodged_at,
        deliveries.movement_date,
        deliveries.transport_mode,
        deliveries.conveyance,
        deliveries.transport_document_no,
        deliveries.place,
        deliveries.counterparty_country as counterparty_country_code,
        deliveries.trader_name,
        deliveries.trader_id,
        deliveries.agent_brn,
        deliveries.packages as package_count,
        deliveries.package_kind,
        deliveries.hkhs_code,
        deliveries.goods_description,
        deliveries.origin_country as origin_country_code,
        deliveries.quantity,
        deliveries.unit_code,
        round(deliveries.value_hkd, 2) as value_hkd,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
