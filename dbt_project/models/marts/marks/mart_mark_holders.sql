-- One row per enterprise that exported, or sold at a linked shop, in the last 12 months that are whole and settled: which marks it
-- holds on the release day, and how it sells and refunds. Certificates and shops of unknown enterprises are not counted.
with links as (
    select * from {{ ref('int_sme__linked') }}
),

valid_certificates as (
    select * from {{ ref('int_marks__current') }} where is_valid
),

certificates as (
    select * from valid_certificates where sme_id is not null
),

-- Its holder is the shop's enterprise, or not known.
marked_shops as (
    select distinct links.source_key
    from valid_certificates
    inner join links
        on links.source = 'shop' and links.source_key = {{ shop_key('valid_certificates') }}
    where
        valid_certificates.mark_scope = 'shop'
        and coalesce(valid_certificates.sme_id, links.sme_id) = links.sme_id
),

smes as (
    select * from {{ ref('dim_sme') }}
),

rates as (
    select * from {{ ref('int_rates__days') }}
),

open_build as (
    {{ release_columns(['quality_marks', 'customs_declarations', 'platform_orders']) }}
),

last_12_months as (
    select * from {{ ref('int_calendar__last_12_months') }}
),

marks as (
    select
        sme_id,
        {{ any_true("mark_scope = 'company'") }} as has_company_mark,
        {{ any_true("mark_scope = 'brand'") }} as has_brand_mark,
        {{ any_true("mark_scope = 'product'") }} as has_product_mark,
        {{ any_true("mark_scope = 'shop'") }} as has_shop_mark,
        count(*) as valid_mark_count
    from certificates
    group by sme_id
),

trade as (
    select * from {{ ref('int_sme__last_12_months') }} where is_exporter
),

online as (
    select
        links.sme_id,
        sum(daily.placed_cny * rates.hkd_per_cny) as placed_12m_hkd,
        sum(daily.paid_cny * rates.hkd_per_cny) as paid_12m_hkd,
        sum(daily.refunded_cny * rates.hkd_per_cny) as refunded_12m_hkd,
        sum(daily.paid_line_count) as paid_line_count,
        sum(daily.refunded_line_count) as refunded_line_count,
        count(distinct marked_shops.source_key) as marked_shop_count,
        sum(case when marked_shops.source_key is not null then daily.paid_cny * rates.hkd_per_cny end)
            as marked_paid_12m_hkd,
        sum(case when marked_shops.source_key is not null then daily.refunded_cny * rates.hkd_per_cny end)
            as marked_refunded_12m_hkd,
        sum(case when marked_shops.source_key is not null then daily.paid_line_count end) as marked_paid_line_count,
        sum(case when marked_shops.source_key is not null then daily.refunded_line_count end)
            as marked_refunded_line_count
    from {{ ref('int_orders__daily') }} as daily
    inner join links
        on links.source = 'shop' and links.source_key = {{ shop_key('daily') }}
    inner join last_12_months on daily.day between last_12_months.first_month and last_12_months.last_day
    left join rates on daily.day = rates.day
    left join marked_shops on links.source_key = marked_shops.source_key
    group by links.sme_id
),

final as (
    select
        smes.sme_id,
        smes.sme_class,
        trade.sme_id is not null as is_exporter,
        online.sme_id is not null as is_merchant,
        coalesce(marks.has_company_mark, false) as has_company_mark,
        coalesce(marks.has_brand_mark, false) as has_brand_mark,
        coalesce(marks.has_product_mark, false) as has_product_mark,
        coalesce(marks.has_shop_mark, false) as has_shop_mark,
        marks.sme_id is not null as has_any_mark,
        cast(coalesce(marks.valid_mark_count, 0) as integer) as valid_mark_count,
        cast(coalesce(trade.export_value_hkd, 0) as numeric(20, 2)) as export_value_12m_hkd,
        cast(coalesce(online.placed_12m_hkd, 0) as numeric(20, 2)) as placed_12m_hkd,
        cast(coalesce(online.paid_12m_hkd, 0) as numeric(20, 2)) as paid_12m_hkd,
        cast(coalesce(online.refunded_12m_hkd, 0) as numeric(20, 2)) as refunded_12m_hkd,
        cast(coalesce(online.paid_line_count, 0) as bigint) as paid_line_count,
        cast(coalesce(online.refunded_line_count, 0) as bigint) as refunded_line_count,
        cast(coalesce(online.marked_shop_count, 0) as integer) as marked_shop_count,
        cast(coalesce(online.marked_paid_12m_hkd, 0) as numeric(20, 2)) as marked_shop_paid_12m_hkd,
        cast(coalesce(online.marked_refunded_12m_hkd, 0) as numeric(20, 2)) as marked_shop_refunded_12m_hkd,
        cast(coalesce(online.marked_paid_line_count, 0) as bigint) as marked_shop_paid_line_count,
        cast(coalesce(online.marked_refunded_line_count, 0) as bigint) as marked_shop_refunded_line_count,
        last_12_months.last_day as period_end,
        open_build.as_of_date,
        open_build.last_complete_date,
        cast('enterprises known by number or linked by name' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from smes
    cross join open_build
    cross join last_12_months
    left join trade on smes.sme_id = trade.sme_id
    left join online on smes.sme_id = online.sme_id
    left join marks on smes.sme_id = marks.sme_id
    where trade.sme_id is not null or online.sme_id is not null
)

select * from final
