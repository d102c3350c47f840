-- One row per declaration, version and line, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('customs_declarations') }})

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
    deliveries.value_hkd,
    {{ lineage() }}
from deliveries
