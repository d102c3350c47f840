-- One row per month, bulk file, flow and whether it is gold: the published value of all codes of eight digits.
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
        hs_code,
        import_value_hkd as value_hkd
    from by_counterparty
    union all
    select
        'bulk_hsccit' as published_source,
        month_start,
        'domestic_export' as flow,
        hs_code,
        domestic_export_value_hkd as value_hkd
    from by_counterparty
    union all
    select
        'bulk_hsccit' as published_source,
        month_start,
        're_export' as flow,
        hs_code,
        re_export_value_hkd as value_hkd
    from by_counterparty
    union all
    select
        'bulk_hsccit' as published_source,
        month_start,
        'total_export' as flow,
        hs_code,
        domestic_export_value_hkd + re_export_value_hkd as value_hkd
    from by_counterparty
    union all
    select
        'bulk_hscoit' as published_source,
        month_start,
        'import' as flow,
        hs_code,
        import_value_hkd as value_hkd
    from by_origin
    union all
    select
        'bulk_hscoccit' as published_source,
        month_start,
        're_export' as flow,
        hs_code,
        re_export_value_hkd as value_hkd
    from by_origin_and_destination
),

final as (
    select
        cells.published_source,
        cells.month_start as month,
        cells.flow,
        gold_codes.hkhs_code is not null as is_gold,
        sum(cells.value_hkd) as value_hkd,
        sum(case when cells.value_hkd <> 0 then 1 else 0 end) as cell_count
    from cells
    left join gold_codes on cells.hs_code = gold_codes.hkhs_code
    group by cells.published_source, cells.month_start, cells.flow, gold_codes.hkhs_code is not null
)

select * from final
