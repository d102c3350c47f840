-- One row per enterprise and span in which the register had one industry and size for it. The oldest version on record holds
-- for the time before it too. Of several businesses the one that dim_sme shows.
{{ config(materialized='table') }}

with smes as (
    select * from {{ ref('dim_sme') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

register as (
    select * from {{ ref('int_register__versioned') }}
),

size_classes as (
    select * from {{ ref('size_classes') }}
),

-- Several deliveries of a date: the last one counts.
versions as (
    select
        links.sme_id,
        register.industry_section,
        register.persons_engaged_count,
        case when register.industry_section = 'C' then 'manufacturing' else 'other' end as industry_group,
        register.business_date,
        rank() over (
            partition by links.sme_id
            order by case when register.brn = smes.brn then 0 else 1 end, register.branch_no, register.brn
        ) as business_rank,
        row_number() over (
            partition by register.brn, register.branch_no, register.business_date
            order by register.received_at desc, register.batch_id desc
        ) as recency
    from register
    inner join links on register.brn = links.source_key
    inner join smes on links.sme_id = smes.sme_id
),

spans as (
    select
        versions.*,
        lag(business_date) over (partition by sme_id order by business_date) as date_before,
        lead(business_date) over (partition by sme_id order by business_date) as next_date
    from versions
    where business_rank = 1 and recency = 1
),

final as (
    select
        smes.sme_id,
        case when spans.date_before is null then cast('1900-01-01' as date) else spans.business_date end as valid_from,
        cast({{ dbt.dateadd('day', -1, 'spans.next_date') }} as date) as valid_to,
        coalesce(spans.industry_section, 'unknown') as industry_section,
        coalesce(size_classes.sme_class, 'unknown') as sme_class,
        {{ counts_as_sme('size_classes.is_sme') }} as counts_as_sme,
        smes.commencement_date,
        smes.cessation_date
    from smes
    left join spans on smes.sme_id = spans.sme_id
    left join size_classes
        on
            spans.industry_group = size_classes.industry_group
            and spans.persons_engaged_count >= size_classes.min_persons
            and (size_classes.max_persons is null or spans.persons_engaged_count <= size_classes.max_persons)
)

select * from final
