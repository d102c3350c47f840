-- One row per language and holiday, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('hk_public_holidays') }})

select
    deliveries.language,
    deliveries.uid,
    deliveries.starts_on as holiday_on,
    deliveries.ends_on as day_after,
    deliveries.summary as holiday_name,
    {{ lineage() }}
from deliveries
