-- One row per enterprise and branch, after the changes of the day, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('business_register') }})

select
    deliveries.brn,
    deliveries.branch_no,
    deliveries.name_en,
    deliveries.name_zh,
    deliveries.legal_form,
    deliveries.cr_no,
    deliveries.status,
    deliveries.commencement_date,
    deliveries.cessation_date,
    deliveries.industry_section,
    deliveries.hsic_code,
    deliveries.persons_engaged as persons_engaged_count,
    deliveries.size_basis,
    deliveries.size_as_of,
    deliveries.district,
    deliveries.changed_on,
    {{ lineage() }}
from deliveries
