-- One row per indicator and period, each with its unit: what the E-commerce Development Task Force follows, from the marts of all
-- families. Indicators of a month and of the release day (period as_of) stand in one table and are not to be added up. Months
-- that the history holds only in part are left out. Who counts as an SME stands in dim_sme.
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
    select * from {{ ref('mart_sales_by_regime') }} where regime_direction <> 'out_of_mainland' and is_fully_covered
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
    select * from {{ ref('dim_sme') }} where counts_as_sme
),

indicators as (
    select * from {{ ref('indicators') }}
),

open_build as (
    {{ release_columns() }}
),

trade_of_smes as (
    select
        trade.movement_month as month,
        sum(case when trade.flow <> 'import' then trade.value_hkd else 0 end) as export_value_hkd,
        sum(
            case when trade.flow <> 'import' and smes.sme_class = 'unknown' then trade.value_hkd else 0 end
        ) as unknown_size_value_hkd,
        count(distinct case when trade.flow <> 'import' then trade.sme_id end) as exporter_count,
        count(
            distinct case when trade.flow <> 'import' and smes.sme_class = 'unknown' then trade.sme_id end
        ) as unknown_size_count,
        {{ any_true('trade.is_provisional') }} as is_provisional,
        max(trade.last_complete_date) as last_complete_date
    from trade
    inner join smes on trade.sme_id = smes.sme_id
    group by trade.movement_month
),

insured_monthly as (
    select
        shipment_month as month,
        sum(insured_value_hkd) as insured_value_hkd,
        sum(export_value_hkd) as export_value_hkd,
        {{ any_true('is_provisional') }} as is_provisional,
        max(last_complete_date) as last_complete_date
    from insured
    group by shipment_month
),

mirrored_monthly as (
    select
        movement_month as month,
        sum(mirror_import_hkd) as mirror_import_hkd,
        sum(published_export_hkd) as published_export_hkd,
        {{ any_true('is_provisional') }} as is_provisional,
        max(last_complete_date) as last_complete_date
    from mirrored
    group by movement_month
),

sales_monthly as (
    select
        sales_month as month,
        sum(net_hkd) as net_hkd,
        {{ any_true('is_provisional') }} as is_provisional,
        max(last_complete_date) as last_complete_date
    from sales
    group by sales_month
),

festivals_monthly as (
    select
        {{ month_of('day') }} as month,
        sum(net_hkd) as net_hkd,
        count(distinct merchant_no) as merchant_count,
        {{ any_true('is_provisional') }} as is_provisional,
        max(last_complete_date) as last_complete_date
    from festivals
    group by {{ month_of('day') }}
),

cdi_monthly as (
    select
        activity_month as month,
        sum(consents_given_count) as consents_given_count,
        coalesce(max(last_complete_date) < {{ dbt.last_day('activity_month', 'month') }}, true) as is_under_way,
        coalesce(activity_month > {{ first_month('cdi_consents') }}, false) as has_all_consents,
        coalesce(activity_month > {{ first_month('cdi_financing_requests') }}, false) as has_all_requests,
        sum(amount_approved_hkd) as amount_approved_hkd,
        {{ any_true('is_provisional') }} as is_provisional,
        max(last_complete_date) as last_complete_date
    from cdi
    group by activity_month
),

programmes_now as (
    select
        sum(case when programmes.is_exporter then 1 else 0 end) as exporter_count,
        sum(case when programmes.is_unserved_exporter then 1 else 0 end) as unserved_count,
        max(programmes.last_complete_date) as last_complete_date
    from programmes
    inner join smes on programmes.sme_id = smes.sme_id
),

holders_now as (
    select
        count(*) as trader_count,
        sum(case when holders.has_any_mark then 1 else 0 end) as holder_count,
        max(holders.last_complete_date) as last_complete_date
    from holders
    inner join smes on holders.sme_id = smes.sme_id
),

funding_now as (
    select
        -- A terminated project that was paid nothing was granted still.
        count(distinct case when project_count > 0 then sme_id end) as funded_count,
        sum(granted_hkd) as granted_hkd,
        max(last_complete_date) as last_complete_date
    from headroom
),

measured as (
    select
        'sme_exporters' as indicator,
        month as period_start,
        exporter_count as value,
        is_provisional,
        last_complete_date
    from trade_of_smes
    union all
    select
        'sme_exports' as indicator,
        month as period_start,
        export_value_hkd as value,
        is_provisional,
        last_complete_date
    from trade_of_smes
    union all
    select
        'sme_exporters_of_unknown_size' as indicator,
        month as period_start,
        unknown_size_count as value,
        is_provisional,
        last_complete_date
    from trade_of_smes
    union all
    select
        'sme_exports_of_unknown_size' as indicator,
        month as period_start,
        unknown_size_value_hkd as value,
        is_provisional,
        last_complete_date
    from trade_of_smes
    union all
    select
        'insured_exports' as indicator,
        month as period_start,
        insured_value_hkd as value,
        is_provisional,
        last_complete_date
    from insured_monthly
    union all
    select
        'insured_share_of_exports' as indicator,
        month as period_start,
        100.0 * insured_value_hkd / export_value_hkd as value,
        is_provisional,
        last_complete_date
    from insured_monthly
    where export_value_hkd > 0
    union all
    select
        'declared_exports_gap' as indicator,
        movement_month as period_start,
        gap_pct as value,
        is_provisional,
        last_complete_date
    from reconciled
    where
        comparability = 'comparable' and flow = 'total_export' and goods = 'merchandise'
        and published_source = 'web_table' and gap_pct is not null
    union all
    select
        'mirrored_share_of_exports_to_mainland' as indicator,
        month as period_start,
        100.0 * mirror_import_hkd / published_export_hkd as value,
        is_provisional,
        last_complete_date
    from mirrored_monthly
    where published_export_hkd > 0
    union all
    select
        'online_net_sales_to_mainland' as indicator,
        month as period_start,
        net_hkd as value,
        is_provisional,
        last_complete_date
    from sales_monthly
    where net_hkd is not null
    union all
    select
        'festival_net_sales' as indicator,
        month as period_start,
        net_hkd as value,
        is_provisional,
        last_complete_date
    from festivals_monthly
    where net_hkd is not null
    union all
    select
        'festival_merchants' as indicator,
        month as period_start,
        merchant_count as value,
        is_provisional,
        last_complete_date
    from festivals_monthly
    union all
    select
        'cdi_consents_given' as indicator,
        month as period_start,
        consents_given_count as value,
        is_under_way as is_provisional,
        last_complete_date
    from cdi_monthly
    where has_all_consents
    union all
    select
        'cdi_loans_approved' as indicator,
        month as period_start,
        amount_approved_hkd as value,
        is_provisional,
        last_complete_date
    from cdi_monthly
    where has_all_requests
    union all
    select
        'unserved_sme_exporters' as indicator,
        cast(null as date) as period_start,
        unserved_count as value,
        false as is_provisional,
        last_complete_date
    from programmes_now
    where exporter_count > 0
    union all
    select
        'unserved_share_of_sme_exporters' as indicator,
        cast(null as date) as period_start,
        100.0 * unserved_count / exporter_count as value,
        false as is_provisional,
        last_complete_date
    from programmes_now
    where exporter_count > 0
    union all
    select
        'mark_holders_share' as indicator,
        cast(null as date) as period_start,
        100.0 * holder_count / trader_count as value,
        false as is_provisional,
        last_complete_date
    from holders_now
    where trader_count > 0
    union all
    select
        'funded_enterprises' as indicator,
        cast(null as date) as period_start,
        funded_count as value,
        false as is_provisional,
        last_complete_date
    from funding_now
    where funded_count > 0
    union all
    select
        'funding_granted' as indicator,
        cast(null as date) as period_start,
        granted_hkd as value,
        false as is_provisional,
        last_complete_date
    from funding_now
    where granted_hkd is not null
),

final as (
    select
        cast(measured.indicator as {{ dbt.type_string() }}) as indicator,
        cast(indicators.period as {{ dbt.type_string() }}) as period,
        cast(coalesce(measured.period_start, open_build.as_of_date) as date) as period_start,
        cast(measured.value as numeric(20, 4)) as value,
        cast(indicators.unit as {{ dbt.type_string() }}) as unit,
        cast(indicators.mart as {{ dbt.type_string() }}) as mart,
        measured.is_provisional,
        -- Months that are there in part have no row.
        {{ is_quotable('measured.is_provisional', 'measured.value is not null') }} as is_quotable,
        measured.last_complete_date,
        cast(indicators.coverage_note as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from measured
    cross join open_build
    inner join indicators on measured.indicator = indicators.indicator
)

select * from final
