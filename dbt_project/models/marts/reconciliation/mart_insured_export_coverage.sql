-- One row per month of shipment, market and product of C&SD table 645-95008: exports insured with HKECIC beside the exports of
-- merchandise, gold apart, of all who declare. Shipments may be declared a month later; services and goods shipped from elsewhere have no declaration.
with insured_by_policy as (
    select * from {{ ref('int_insurance__monthly') }}
),

exports_by_trader as (
    select * from {{ ref('int_trade__monthly') }} where flow <> 'import'
),

policies as (
    select * from {{ ref('int_insurance__policies_versioned') }} where is_current
),

products as (
    select * from {{ ref('insured_products') }}
),

countries as (
    select * from {{ ref('csd_countries') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

open_build as (
    {{ release_columns(['hkecic_policies', 'hkecic_shipments', 'customs_declarations']) }}
),

coverage as (
    select max(first_date) as first_date
    from {{ ref('int_feeds__completeness') }}
    where feed in ('hkecic_shipments', 'customs_declarations')
    having count(first_date) = 2
),

holders as (
    select distinct links.sme_id
    from policies
    inner join links on policies.brn = links.source_key
),

measures as (
    select
        insured_by_policy.month,
        countries.csd_code as market_csd_code,
        insured_by_policy.buyer_country_code as market_iso2_code,
        insured_by_policy.hs_chapter,
        insured_by_policy.insured_value_hkd,
        insured_by_policy.ecommerce_insured_value_hkd,
        insured_by_policy.shipment_count,
        0 as export_value_hkd,
        0 as gold_value_hkd,
        0 as policyholder_export_value_hkd
    from insured_by_policy
    left join countries on insured_by_policy.buyer_country_code = countries.iso2_code
    union all
    select
        exports_by_trader.month,
        exports_by_trader.market_csd_code,
        countries.iso2_code as market_iso2_code,
        exports_by_trader.hs_chapter,
        0 as insured_value_hkd,
        0 as ecommerce_insured_value_hkd,
        0 as shipment_count,
        exports_by_trader.value_hkd as export_value_hkd,
        exports_by_trader.gold_value_hkd,
        case when holders.sme_id is not null then exports_by_trader.value_hkd else 0 end as policyholder_export_value_hkd
    from exports_by_trader
    left join countries on exports_by_trader.market_csd_code = countries.csd_code
    left join links on exports_by_trader.trader_id = links.source_key
    left join holders on links.sme_id = holders.sme_id
),

totals as (
    select
        measures.month,
        measures.market_csd_code,
        measures.market_iso2_code,
        coalesce(products.product_code, 'OTHER') as product_code,
        sum(measures.insured_value_hkd) as insured_value_hkd,
        sum(measures.ecommerce_insured_value_hkd) as ecommerce_insured_value_hkd,
        sum(measures.shipment_count) as shipment_count,
        sum(measures.export_value_hkd) as export_value_hkd,
        sum(measures.gold_value_hkd) as gold_value_hkd,
        sum(measures.policyholder_export_value_hkd) as policyholder_export_value_hkd
    from measures
    left join products on measures.hs_chapter = products.hs_chapter
    group by
        measures.month,
        measures.market_csd_code,
        measures.market_iso2_code,
        coalesce(products.product_code, 'OTHER')
),

dated as (
    select
        totals.*,
        {{ month_may_grow('hkecic_shipments', 'totals.month', 'open_build.last_complete_date') }} as is_due
    from totals
    cross join open_build
),

final as (
    select
        dated.month as shipment_month,
        cast(coalesce(dated.market_csd_code, 'none') as {{ dbt.type_string() }}) as market_csd_code,
        cast(coalesce(dated.market_iso2_code, 'none') as {{ dbt.type_string() }}) as market_iso2_code,
        cast(dated.product_code as {{ dbt.type_string() }}) as product_code,
        cast(dated.insured_value_hkd as numeric(20, 2)) as insured_value_hkd,
        cast(dated.ecommerce_insured_value_hkd as numeric(20, 2)) as ecommerce_insured_value_hkd,
        cast(dated.export_value_hkd as numeric(20, 2)) as export_value_hkd,
        cast(dated.gold_value_hkd as numeric(20, 2)) as gold_value_hkd,
        cast(dated.policyholder_export_value_hkd as numeric(20, 2)) as policyholder_export_value_hkd,
        cast(
            {{ shown_from('dated.shipment_count', 'dated.insured_value_hkd / nullif(dated.export_value_hkd, 0)') }}
            as numeric(20, 4)
        ) as coverage_ratio,
        cast(
            {{
                shown_from('dated.shipment_count', 'dated.insured_value_hkd / nullif(dated.policyholder_export_value_hkd, 0)')
            }}
            as numeric(20, 4)
        ) as policyholder_coverage_ratio,
        cast(dated.shipment_count as bigint) as shipment_count,
        cast(
            case
                when coalesce(coverage.first_date > dated.month, true) then 'before_first_deliveries'
                when dated.is_due then 'shipments_still_due'
                else 'comparable'
            end as {{ dbt.type_string() }}
        ) as comparability,
        dated.is_due as is_provisional,
        {{ is_quotable('dated.is_due', 'coverage.first_date <= dated.month') }} as is_quotable,
        open_build.last_complete_date,
        cast(
            'insured: gross invoice value as declared to HKECIC; exports: FOB value of merchandise as declared to customs'
            as {{ dbt.type_string() }}
        ) as coverage_note,
        open_build.release_no
    from dated
    cross join open_build
    left join coverage on coverage.first_date is not null
)

select * from final
