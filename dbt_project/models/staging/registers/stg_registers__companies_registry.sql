-- One row per company, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('companies_registry') }})

select
    deliveries.brn,
    deliveries.name_en,
    deliveries.name_zh,
    deliveries.company_type,
    deliveries.incorporated_on,
    deliveries.redomiciled_on,
    {{ lineage() }}
from deliveries
