-- One row per indicator and period, each with its unit: what the E-commerce Development Task Force follows, from the marts of all
-- families. Indicators of a month and of the release day (period as_of) stand in one table and are not to be added up. Months of
-- trade and orders that the history holds only in part are left out.
with trade as (
    select * from {{ ref('mart_sme_trade_monthly') }} where is_fully_covered
),

insured as (
    select * from {{ ref('mart_insured_export_coverage') }} where comparability <> 'before_first_deliveries'
),

reconciled as (
    select * from {{ ref('mart_trade_reconciliation') }}
),

mirrored as (
    select * from {{ ref('mart_mirror_gap') }} where published_export_hkd is not null and mirror_import_hkd is not null
),

sales as (
    select * from {{ ref('mart_sales_by_regime') }} where direction = 'into_mainland' and is_fully_covered
),

festivals as (
    select * from {{ ref('mart_festival_performance') }}
),

programmes as (
    select * from {{ ref('mart_programme_overlap') }}
),

holders as (
    select * from {{ ref('mart_mark_holders') }}
),

cdi as (
    select * from {{ ref('mart_cdi_usage') }}
),

headroom as (
    select * from {{ ref('mart_funding_headroom') }} where is_current
),

smes as (
    select * from {{ ref('dim_sme') }} where is_sme
),

open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

trade_of_smes as (
    select
        trade.month,
        sum(case when trade.flow <> 'import' then trade.value_hkd else 0 end) as export_value_hkd,
        count(distinct case when trade.flow <> 'import' then trade.sme_id end) as exporter_count,
        max(case when trade.is_provisional then 1 else 0 end) as provisional,
        max(trade.last_complete_date) as last_complete_date
    from trade
    inner join smes on trade.sme_id = smes.sme_id
    group by trade.month
),

insured_monthly as (
    select
        month,
        sum(insured_value_hkd) as insured_value_hkd,
        sum(export_value_hkd) as export_value_hkd,
        max(case when is_provisional then 1 else 0 end) as provisional,
        max(last_complete_date) as last_complete_date
    from insured
    group by month
),

mirrored_monthly as (
    select
        month,
        sum(mirror_import_hkd) as mirror_import_hkd,
        sum(published_export_hkd) as published_export_hkd,
        max(case when is_provisional then 1 else 0 end) as provisional,
        max(last_complete_date) as last_complete_date
    from mirrored
    group by month
),

sales_monthly as (
    select
        month,
        sum(net_hkd) as net_hkd,
        max(case when is_provisional then 1 else 0 end) as provisional,
        max(last_complete_date) as last_complete_date
    from sales
    group by month
),

festivals_monthly as (
    select
        {{ month_of('day') }} as month,
        sum(net_hkd) as net_hkd,
        count(distinct merchant_no) as merchant_count,
        max(case when is_provisional then 1 else 0 end) as provisional,
        max(last_complete_date) as last_complete_date
    from festivals
    group by {{ month_of('day') }}
),

cdi_monthly as (
    select
        month,
        sum(consents_given_count) as consents_given_count,
        coalesce(max(last_complete_date) < {{ dbt.last_day('month', 'month') }}, true) as is_under_way,
        sum(amount_approved_hkd) as amount_approved_hkd,
        max(case when is_provisional then 1 else 0 end) as provisional,
        max(last_complete_date) as last_complete_date
    from cdi
    group by month
),

programmes_now as (
    select
        sum(case when is_exporter then 1 else 0 end) as exporter_count,
        sum(case when is_unserved_exporter then 1 else 0 end) as unserved_count,
        max(last_complete_date) as last_complete_date
    from programmes
    where is_sme
),

holders_now as (
    select
        count(*) as trader_count,
        sum(case when has_any_mark then 1 else 0 end) as holder_count,
        max(last_complete_date) as last_complete_date
    from holders
),

funding_now as (
    select
        count(distinct case when granted_hkd > 0 then sme_id end) as funded_count,
        sum(granted_hkd) as granted_hkd,
        max(last_complete_date) as last_complete_date
    from headroom
),

indicators as (
    select
        'sme_exporters' as indicator,
        'month' as period,
        month as period_start,
        exporter_count as value,
        'enterprises' as unit,
        'mart_sme_trade_monthly' as mart,
        provisional = 1 as is_provisional,
        trade_of_smes.last_complete_date,
        'declared trade: no parcels under HK$4,000, transhipment or samples' as coverage_note
    from trade_of_smes
    union all
    select
        'sme_exports' as indicator,
        'month' as period,
        month as period_start,
        export_value_hkd as value,
        'HKD' as unit,
        'mart_sme_trade_monthly' as mart,
        provisional = 1 as is_provisional,
        trade_of_smes.last_complete_date,
        'declared trade: no parcels under HK$4,000, transhipment or samples' as coverage_note
    from trade_of_smes
    union all
    select
        'insured_exports' as indicator,
        'month' as period,
        month as period_start,
        insured_value_hkd as value,
        'HKD' as unit,
        'mart_insured_export_coverage' as mart,
        provisional = 1 as is_provisional,
        insured_monthly.last_complete_date,
        'gross invoice value as policyholders declared it' as coverage_note
    from insured_monthly
    union all
    select
        'insured_share_of_exports' as indicator,
        'month' as period,
        month as period_start,
        100.0 * insured_value_hkd / export_value_hkd as value,
        'per cent' as unit,
        'mart_insured_export_coverage' as mart,
        provisional = 1 as is_provisional,
        insured_monthly.last_complete_date,
        'insured value over FOB exports, whoever declared them' as coverage_note
    from insured_monthly
    where export_value_hkd > 0
    union all
    select
        'declared_exports_gap' as indicator,
        'month' as period,
        month as period_start,
        gap_pct as value,
        'per cent' as unit,
        'mart_trade_reconciliation' as mart,
        is_provisional,
        reconciled.last_complete_date,
        'declared less published total exports, gold apart' as coverage_note
    from reconciled
    where
        comparability = 'comparable' and flow = 'total_export' and goods = 'merchandise'
        and published_source = 'web_table' and gap_pct is not null
    union all
    select
        'mirrored_share_of_exports_to_mainland' as indicator,
        'month' as period,
        month as period_start,
        100.0 * mirror_import_hkd / published_export_hkd as value,
        'per cent' as unit,
        'mart_mirror_gap' as mart,
        provisional = 1 as is_provisional,
        mirrored_monthly.last_complete_date,
        'imports c.i.f. as the Mainland counts them over exports f.o.b.' as coverage_note
    from mirrored_monthly
    where published_export_hkd > 0
    union all
    select
        'online_net_sales_to_mainland' as indicator,
        'month' as period,
        month as period_start,
        net_hkd as value,
        'HKD' as unit,
        'mart_sales_by_regime' as mart,
        provisional = 1 as is_provisional,
        sales_monthly.last_complete_date,
        'shops that share their data, after refunds' as coverage_note
    from sales_monthly
    where net_hkd is not null
    union all
    select
        'festival_net_sales' as indicator,
        'month' as period,
        month as period_start,
        net_hkd as value,
        'HKD' as unit,
        'mart_festival_performance' as mart,
        provisional = 1 as is_provisional,
        festivals_monthly.last_complete_date,
        'shops that share their data, on days of a festival' as coverage_note
    from festivals_monthly
    where net_hkd is not null
    union all
    select
        'festival_merchants' as indicator,
        'month' as period,
        month as period_start,
        merchant_count as value,
        'merchants' as unit,
        'mart_festival_performance' as mart,
        provisional = 1 as is_provisional,
        festivals_monthly.last_complete_date,
        'merchants with an order on a day of a festival' as coverage_note
    from festivals_monthly
    union all
    select
        'cdi_consents_given' as indicator,
        'month' as period,
        month as period_start,
        consents_given_count as value,
        'consents' as unit,
        'mart_cdi_usage' as mart,
        is_under_way as is_provisional,
        cdi_monthly.last_complete_date,
        'consents given in the month' as coverage_note
    from cdi_monthly
    union all
    select
        'cdi_loans_approved' as indicator,
        'month' as period,
        month as period_start,
        amount_approved_hkd as value,
        'HKD' as unit,
        'mart_cdi_usage' as mart,
        provisional = 1 as is_provisional,
        cdi_monthly.last_complete_date,
        'by month of the request' as coverage_note
    from cdi_monthly
    union all
    select
        'unserved_sme_exporters' as indicator,
        'as_of' as period,
        cast(null as date) as period_start,
        unserved_count as value,
        'enterprises' as unit,
        'mart_programme_overlap' as mart,
        false as is_provisional,
        programmes_now.last_complete_date,
        'exporters of 12 months that BUD, EMF, HKECIC and festivals never reached' as coverage_note
    from programmes_now
    where exporter_count > 0
    union all
    select
        'unserved_share_of_sme_exporters' as indicator,
        'as_of' as period,
        cast(null as date) as period_start,
        100.0 * unserved_count / exporter_count as value,
        'per cent' as unit,
        'mart_programme_overlap' as mart,
        false as is_provisional,
        programmes_now.last_complete_date,
        'exporters of 12 months that BUD, EMF, HKECIC and festivals never reached' as coverage_note
    from programmes_now
    where exporter_count > 0
    union all
    select
        'mark_holders_share' as indicator,
        'as_of' as period,
        cast(null as date) as period_start,
        100.0 * holder_count / trader_count as value,
        'per cent' as unit,
        'mart_mark_holders' as mart,
        false as is_provisional,
        holders_now.last_complete_date,
        'exporters and merchants of 12 months; unknown holders count for nobody' as coverage_note
    from holders_now
    where trader_count > 0
    union all
    select
        'funded_enterprises' as indicator,
        'as_of' as period,
        cast(null as date) as period_start,
        funded_count as value,
        'enterprises' as unit,
        'mart_funding_headroom' as mart,
        false as is_provisional,
        funding_now.last_complete_date,
        'ever granted BUD or EMF funding' as coverage_note
    from funding_now
    where funded_count > 0
    union all
    select
        'funding_granted' as indicator,
        'as_of' as period,
        cast(null as date) as period_start,
        granted_hkd as value,
        'HKD' as unit,
        'mart_funding_headroom' as mart,
        false as is_provisional,
        funding_now.last_complete_date,
        'granted so far; terminated projects with what was paid' as coverage_note
    from funding_now
    where granted_hkd is not null
),

final as (
    select
        cast(indicators.indicator as text) as indicator,
        cast(indicators.period as text) as period,
        cast(coalesce(indicators.period_start, open_build.as_of_date) as date) as period_start,
        cast(indicators.value as numeric(20, 4)) as value,
        cast(indicators.unit as text) as unit,
        cast(indicators.mart as text) as mart,
        indicators.is_provisional,
        indicators.last_complete_date,
        cast(indicators.coverage_note as text) as coverage_note,
        open_build.build_no as release_no
    from indicators
    cross join open_build
)

select * from final
