-- One row per enterprise: who it is, what it traded, sold online, insured and was granted, where it took part. The last 12 months
-- are those whose declarations, orders and insured shipments can grow no more. An enterprise that a feed does not show has zero there, which says nothing
-- about what is outside the feed.
{{ config(indexes=[{'columns': ['brn']}]) }}

with smes as (
    select * from {{ ref('dim_sme') }}
),

links as (
    select * from {{ ref('int_sme__linked') }}
),

open_build as (
    {{
        release_columns(
            [
                'business_register', 'customs_declarations', 'funding_applications', 'funding_payments',
                'hkecic_policies', 'hkecic_shipments', 'platform_orders', 'festival_participants',
                'trade_missions', 'design_gallery_sales', 'quality_marks'
            ]
        )
    }}
),

trade as (
    select
        links.sme_id,
        min(case when monthly.flow <> 'import' then monthly.month end) as first_export_month,
        max(case when monthly.flow <> 'import' then monthly.month end) as last_export_month,
        max(monthly.month) as last_trade_month
    from {{ ref('int_trade__monthly') }} as monthly
    inner join links on links.source = 'number' and monthly.trader_id = links.source_key
    group by links.sme_id
),

last_12_months as (
    select * from {{ ref('int_calendar__last_12_months') }}
),

declared as (
    select * from {{ ref('int_sme__last_12_months') }}
),

funding as (
    select
        headroom.sme_id,
        sum(headroom.granted_hkd) as funding_granted_hkd,
        sum(headroom.in_force_hkd) as funding_in_force_hkd,
        sum(headroom.project_count) as funding_project_count,
        sum(case when headroom.funding_scheme = 'bud' then headroom.headroom_hkd end) as bud_headroom_hkd
    from {{ ref('int_funding__headroom') }} as headroom
    inner join open_build on {{ in_force_on('headroom', 'open_build.as_of_date') }}
    group by headroom.sme_id
),

policies as (
    select
        links.sme_id,
        sum(case when covers.is_in_force then 1 else 0 end) as policy_in_force_count,
        sum(case when covers.is_in_force then covers.newest_max_liability_hkd else 0 end) as max_liability_hkd
    from {{ ref('int_insurance__covers') }} as covers
    inner join links on links.source = 'number' and covers.brn = links.source_key
    group by links.sme_id
),

insured as (
    select
        links.sme_id,
        sum(monthly.insured_value_hkd) as insured_value_12m_hkd
    from {{ ref('int_insurance__monthly') }} as monthly
    inner join {{ ref('int_insurance__policies_versioned') }} as policies
        on monthly.policy_no = policies.policy_no and policies.is_current
    inner join links on links.source = 'number' and policies.brn = links.source_key
    inner join last_12_months on monthly.month between last_12_months.first_month and last_12_months.last_month
    group by links.sme_id
),

online as (
    select
        links.sme_id,
        sum((daily.paid_cny - daily.refunded_cny) * rates.hkd_per_cny) as online_net_sales_12m_hkd
    from {{ ref('int_orders__daily') }} as daily
    inner join links
        on
            links.source = 'shop'
            and links.source_key = {{ shop_key('daily') }}
    inner join last_12_months on daily.day between last_12_months.first_month and last_12_months.last_day
    left join {{ ref('int_rates__days') }} as rates on daily.day = rates.day
    group by links.sme_id
),

gallery as (
    select
        links.sme_id,
        sum(
            {{ in_hkd('daily.sales_hkd', 'daily.sales_cny', 'rates.hkd_per_cny') }}
            - {{ in_hkd('daily.returns_hkd', 'daily.returns_cny', 'rates.hkd_per_cny') }}
        ) as gallery_net_sales_12m_hkd
    from {{ ref('int_gallery__daily') }} as daily
    inner join links on links.source = 'number' and daily.supplier_brn = links.source_key
    inner join last_12_months on daily.day between last_12_months.first_month and last_12_months.last_day
    left join {{ ref('int_rates__days') }} as rates on daily.day = rates.day
    group by links.sme_id
),

programmes as (
    select * from {{ ref('int_sme__programmes') }}
),

final as (
    select
        smes.sme_id,
        smes.brn,
        smes.name_en,
        smes.name_zh,
        smes.sme_class,
        smes.sme_class_basis,
        smes.is_sme,
        smes.counts_as_sme,
        smes.industry_section,
        smes.district,
        smes.register_status,
        cast(coalesce(declared.export_value_hkd, 0) as numeric(20, 2)) as export_value_12m_hkd,
        cast(coalesce(declared.import_value_hkd, 0) as numeric(20, 2)) as import_value_12m_hkd,
        trade.first_export_month,
        trade.last_export_month,
        trade.last_trade_month,
        cast(coalesce(funding.funding_granted_hkd, 0) as numeric(20, 2)) as funding_granted_hkd,
        cast(coalesce(funding.funding_in_force_hkd, 0) as numeric(20, 2)) as funding_in_force_hkd,
        cast(coalesce(funding.funding_project_count, 0) as integer) as funding_project_count,
        cast(coalesce(funding.bud_headroom_hkd, 0) as numeric(20, 2)) as bud_headroom_hkd,
        cast(coalesce(policies.policy_in_force_count, 0) as integer) as policy_in_force_count,
        cast(coalesce(policies.max_liability_hkd, 0) as numeric(20, 2)) as max_liability_hkd,
        cast(coalesce(insured.insured_value_12m_hkd, 0) as numeric(20, 2)) as insured_value_12m_hkd,
        cast(coalesce(online.online_net_sales_12m_hkd, 0) as numeric(20, 2)) as online_net_sales_12m_hkd,
        cast(coalesce(programmes.festival_count, 0) as integer) as festival_count,
        cast(coalesce(programmes.mission_count, 0) as integer) as mission_count,
        cast(coalesce(gallery.gallery_net_sales_12m_hkd, 0) as numeric(20, 2)) as gallery_net_sales_12m_hkd,
        cast(coalesce(programmes.valid_mark_count, 0) as integer) as valid_mark_count,
        trade.sme_id is not null as has_traded,
        coalesce(funding.funding_project_count, 0) > 0 as has_funding,
        policies.sme_id is not null as has_insurance,
        coalesce(programmes.festival_count, 0) > 0 as has_festival,
        last_12_months.last_day as period_end,
        open_build.as_of_date,
        open_build.last_complete_date,
        cast('what the feeds show' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from smes
    cross join open_build
    cross join last_12_months
    left join trade on smes.sme_id = trade.sme_id
    left join funding on smes.sme_id = funding.sme_id
    left join policies on smes.sme_id = policies.sme_id
    left join insured on smes.sme_id = insured.sme_id
    left join declared on smes.sme_id = declared.sme_id
    left join online on smes.sme_id = online.sme_id
    left join gallery on smes.sme_id = gallery.sme_id
    left join programmes on smes.sme_id = programmes.sme_id
)

select * from final
