-- One row per month, bulk file, flow and whether it is gold: the published value, by the file's own totals. A row of a code that
-- was rejected is missing among the codes and not in the totals. Without a total that the codes show to be there, it is not known.
{{ config(materialized='view') }}

with by_counterparty as (
    select * from {{ ref('int_csd__hsccit_versioned') }} where is_current
),

by_origin as (
    select * from {{ ref('int_csd__hscoit_versioned') }} where is_current
),

by_origin_and_destination as (
    select * from {{ ref('int_csd__hscoccit_versioned') }} where is_current
),

gold_codes as (
    select * from {{ ref('gold_codes') }}
),

cells as (
    select
        'bulk_hsccit' as published_source,
        month_start,
        'import' as flow,
        record_type,
        hs_code,
        import_value_hkd as value_hkd
    from by_counterparty
    union all
    select
        'bulk_hsccit' as published_source,
        month_start,
        'domestic_export' as flow,
        record_type,
        hs_code,
        domestic_export_value_hkd as value_hkd
    from by_counterparty
    union all
    select
        'bulk_hsccit' as published_source,
        month_start,
        're_export' as flow,
        record_type,
        hs_code,
        re_export_value_hkd as value_hkd
    from by_counterparty
    union all
    select
        'bulk_hsccit' as published_source,
        month_start,
        'total_export' as flow,
        record_type,
        hs_code,
        domestic_export_value_hkd + re_export_value_hkd as value_hkd
    from by_counterparty
    union all
    select
        'bulk_hscoit' as published_source,
        month_start,
        'import' as flow,
        record_type,
        hs_code,
        import_value_hkd as value_hkd
    from by_origin
    union all
    select
        'bulk_hscoccit' as published_source,
        month_start,
        're_export' as flow,
        record_type,
        hs_code,
        re_export_value_hkd as value_hkd
    from by_origin_and_destination
),

sums as (
    select
        cells.published_source,
        cells.month_start,
        cells.flow,
        sum(case when cells.record_type = '0' and cells.hs_code = '00000001' then cells.value_hkd end) as all_hkd,
        sum(case when cells.record_type = '0' and cells.hs_code = '00000000' then cells.value_hkd end) as gold_hkd,
        sum(case when cells.record_type = '1' and gold_codes.hkhs_code is not null then cells.value_hkd end) as gold_codes_hkd
    from cells
    left join gold_codes on cells.hs_code = gold_codes.hkhs_code
    group by cells.published_source, cells.month_start, cells.flow
),

-- A file without a gold item has no total of gold.
known as (
    select
        published_source,
        month_start,
        flow,
        all_hkd,
        coalesce(gold_hkd, case when coalesce(gold_codes_hkd, 0) = 0 then 0 end) as gold_hkd
    from sums
),

final as (
    select
        published_source,
        month_start as month,
        flow,
        false as is_gold,
        all_hkd - gold_hkd as value_hkd,
        case when all_hkd <> 0 then 1 else 0 end + case when gold_hkd <> 0 then 1 else 0 end as figure_count
    from known
    union all
    select
        published_source,
        month_start as month,
        flow,
        true as is_gold,
        gold_hkd as value_hkd,
        case when gold_hkd <> 0 then 1 else 0 end as figure_count
    from known
)

select * from final
