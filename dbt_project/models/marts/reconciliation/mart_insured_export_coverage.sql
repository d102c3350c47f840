-- One row per month of shipment, market and product of C&SD table 645-95008: exports insured with HKECIC beside the exports of
-- all who declare. Shipments may be declared a month later; services and goods shipped from elsewhere have no declaration.
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
    select
        build_no,
        {{ last_complete_date(['hkecic_policies', 'hkecic_shipments', 'customs_declarations']) }} as last_complete_date
    from {{ ref('stg_ops__open_build') }}
),

holders as (
    select distinct links.sme_id
    from policies
    inner join links on policies.brn = links.source_key
),

measures as (
    select
        insured_by_policy.month,
        insured_by_policy.buyer_country_code as market_code,
        insured_by_policy.hs_chapter,
        insured_by_policy.insured_value_hkd,
        insured_by_policy.ecommerce_insured_value_hkd,
        insured_by_policy.shipment_count,
        0 as export_value_hkd,
        0 as policyholder_export_value_hkd
    from insured_by_policy
    union all
    select
        exports_by_trader.month,
        coalesce(countries.iso2_code, exports_by_trader.counterparty_country_code) as market_code,
        exports_by_trader.hs_chapter,
        0 as insured_value_hkd,
        0 as ecommerce_insured_value_hkd,
        0 as shipment_count,
        exports_by_trader.value_hkd as export_value_hkd,
        case when holders.sme_id is not null then exports_by_trader.value_hkd else 0 end as policyholder_export_value_hkd
    from exports_by_trader
    left join countries on exports_by_trader.counterparty_country_code = countries.csd_code
    left join links on exports_by_trader.trader_id = links.source_key
    left join holders on links.sme_id = holders.sme_id
),

totals as (
    select
        measures.month,
        measures.market_code,
        coalesce(products.product_code, 'OTHER') as product_code,
        sum(measures.insured_value_hkd) as insured_value_hkd,
        sum(measures.ecommerce_insured_value_hkd) as ecommerce_insured_value_hkd,
        sum(measures.shipment_count) as shipment_count,
        sum(measures.export_value_hkd) as export_value_hkd,
        sum(measures.policyholder_export_value_hkd) as policyholder_export_value_hkd
    from measures
    left join products on measures.hs_chapter = products.hs_chapter
    group by measures.month, measures.market_code, coalesce(products.product_code, 'OTHER')
),

final as (
    select
        totals.month,
        cast(totals.market_code as text) as market_code,
        cast(totals.product_code as text) as product_code,
        cast(totals.insured_value_hkd as numeric(20, 2)) as insured_value_hkd,
        cast(totals.ecommerce_insured_value_hkd as numeric(20, 2)) as ecommerce_insured_value_hkd,
        cast(totals.export_value_hkd as numeric(20, 2)) as export_value_hkd,
        cast(totals.policyholder_export_value_hkd as numeric(20, 2)) as policyholder_export_value_hkd,
        cast(
            case when totals.export_value_hkd > 0 then totals.insured_value_hkd / totals.export_value_hkd end
            as numeric(20, 4)
        ) as coverage_ratio,
        cast(
            case
                when totals.policyholder_export_value_hkd > 0
                    then totals.insured_value_hkd / totals.policyholder_export_value_hkd
            end as numeric(20, 4)
        ) as policyholder_coverage_ratio,
        cast(totals.shipment_count as bigint) as shipment_count,
        coalesce(
            open_build.last_complete_date < {{ dbt.dateadd('day', 31, dbt.last_day('totals.month', 'month')) }}, true
        ) as is_provisional,
        open_build.last_complete_date,
        cast('insured: gross invoice value as declared to HKECIC; exports: FOB value as declared to customs' as text)
            as coverage_note,
        open_build.build_no as release_no
    from totals
    cross join open_build
)

select * from final
