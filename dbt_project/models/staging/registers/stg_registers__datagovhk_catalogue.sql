-- One row per data set, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('datagovhk_catalogue') }})

select
    deliveries.name as dataset_name,
    deliveries.title,
    deliveries.publisher,
    deliveries.update_frequency,
    deliveries.metadata_modified,
    deliveries.resource_count,
    deliveries.formats,
    deliveries.first_url,
    deliveries.first_created,
    {{ lineage() }}
from deliveries
