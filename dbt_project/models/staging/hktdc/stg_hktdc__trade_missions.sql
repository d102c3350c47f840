-- One row per event and enterprise, on the business date, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('trade_missions') }})

select
    deliveries.event_id,
    deliveries.participant_no,
    deliveries.event_name,
    deliveries.market as market_code,
    deliveries.starts_on,
    deliveries.ends_on,
    deliveries.brn,
    deliveries.enterprise_name,
    deliveries.status,
    deliveries.meetings,
    deliveries.expected_orders_hkd,
    {{ lineage() }}
from deliveries
