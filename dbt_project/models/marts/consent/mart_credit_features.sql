-- One row per consent and kind of data that it names: features of the enterprise that gave it, for the bank that it names.
-- Columns of other kinds of data are empty. Banks read only here, under row-level security that asks for the consent at the
-- moment of reading. The last 12 months of declared trade end with the last one whose declarations were all due, so that they compare
-- with the 12 before; those of payments with the last one summarised; those of sales are int_calendar__last_12_months.
{{ config(post_hook='{{ read_under_consent() }}') }}

with consents as (
    select * from {{ ref('int_consents__current') }} where is_live and sme_id is not null
),

purposes as (
    select * from {{ ref('stg_ops__consent_purposes') }}
),

links as (
    select * from {{ ref('int_sme__linked') }}
),

smes as (
    select * from {{ ref('dim_sme') }}
),

open_build as (
    {{
        release_columns(
            [
                'cdi_consents', 'cdi_financing_requests', 'epayment_summaries', 'credit_reference_checks',
                'customs_declarations', 'platform_orders'
            ],
            months_back={'first_month_before': 23}
        )
    }}
),

known_until as (
    {{ known_until('customs_declarations') }}
),

last_12_months as (
    select * from {{ ref('int_calendar__last_12_months') }}
),

declared as (
    select
        month as last_month,
        -- The first month of the history may have begun without us.
        coalesce({{ first_month('customs_declarations') }} <= {{ dbt.dateadd('month', -24, 'month') }}, false) as knows_prior_12m
    from known_until
),

summaries as (
    select * from {{ ref('int_epayments__versioned') }} where is_current
),

summarised as (
    select cast({{ dbt.dateadd('month', -11, 'max(month_start)') }} as date) as first_month
    from summaries
),

trade as (
    select
        links.sme_id,
        case when monthly.flow = 'import' then 'import' else 'export' end as direction,
        monthly.month,
        monthly.market_csd_code,
        monthly.hs_chapter,
        monthly.value_hkd,
        monthly.month > {{ dbt.dateadd('month', -12, 'declared.last_month') }} as is_last_12m
    from {{ ref('int_trade__monthly') }} as monthly
    inner join links on links.source = 'number' and monthly.trader_id = links.source_key
    inner join declared
        on
            monthly.month > {{ dbt.dateadd('month', -24, 'declared.last_month') }}
            and monthly.month <= declared.last_month
),

trade_totals as (
    select
        sme_id,
        sum(case when direction = 'export' and is_last_12m then value_hkd else 0 end) as export_value_12m_hkd,
        sum(case when direction = 'export' and not is_last_12m then value_hkd else 0 end) as export_value_prior_12m_hkd,
        sum(case when direction = 'import' and is_last_12m then value_hkd else 0 end) as import_value_12m_hkd,
        count(distinct case when direction = 'export' and is_last_12m then month end) as export_month_count,
        max(case when direction = 'export' then month end) as last_export_month
    from trade
    group by sme_id
),

markets as (
    select
        sme_id,
        market_csd_code,
        sum(value_hkd) as value_hkd
    from trade
    where direction = 'export' and is_last_12m
    group by sme_id, market_csd_code
),

chapters as (
    select
        sme_id,
        hs_chapter,
        sum(value_hkd) as value_hkd
    from trade
    where direction = 'export' and is_last_12m
    group by sme_id, hs_chapter
),

market_shares as (
    select
        sme_id,
        {{ herfindahl('value_hkd') }} as market_hhi,
        max(value_hkd) / nullif(sum(value_hkd), 0) as top_market_share
    from markets
    group by sme_id
),

chapter_shares as (
    select
        sme_id,
        {{ herfindahl('value_hkd') }} as chapter_hhi
    from chapters
    group by sme_id
),

-- A consent names the provider whose summaries it lets through.
payments as (
    select
        links.sme_id,
        summaries.provider,
        sum(summaries.amount_hkd - summaries.refund_hkd) as epayment_net_12m_hkd,
        sum(summaries.payment_count) as epayment_count_12m,
        sum(summaries.refund_hkd) / nullif(sum(summaries.amount_hkd), 0) as epayment_refund_share,
        count(distinct summaries.month_start) as epayment_month_count
    from summaries
    inner join links on links.source = 'number' and summaries.brn = links.source_key
    inner join summarised on summaries.month_start >= summarised.first_month
    group by links.sme_id, summaries.provider
),

online as (
    select
        links.sme_id,
        sum((daily.paid_cny - daily.refunded_cny) * rates.hkd_per_cny) as online_net_sales_12m_hkd,
        sum(daily.refunded_cny) / nullif(sum(daily.paid_cny), 0) as online_refund_share,
        count(distinct daily.day) as online_day_count
    from {{ ref('int_orders__daily') }} as daily
    inner join links
        on links.source = 'shop' and links.source_key = {{ shop_key('daily') }}
    inner join last_12_months on daily.day between last_12_months.first_month and last_12_months.last_day
    left join {{ ref('int_rates__days') }} as rates on daily.day = rates.day
    where daily.paid_line_count > 0
    group by links.sme_id
),

financing as (
    select
        links.sme_id,
        count(*) as financing_request_count_24m,
        sum(case when requests.status = 'approved' then 1 else 0 end) as financing_approved_count_24m,
        sum(requests.amount_approved_hkd) as financing_approved_24m_hkd
    from {{ ref('int_financing__decided') }} as requests
    inner join links on links.source = 'number' and requests.brn = links.source_key
    inner join open_build on requests.requested_on >= open_build.first_month_before
    group by links.sme_id
),

checks as (
    select
        links.sme_id,
        count(*) as credit_check_count_24m,
        sum(case when checks.result = 'match' then 1 else 0 end) as credit_check_match_count_24m
    from {{ ref('int_credit_checks__versioned') }} as checks
    inner join links on links.source = 'number' and checks.brn = links.source_key
    inner join open_build on {{ hong_kong_date('checks.checked_at') }} >= open_build.first_month_before
    where checks.is_current
    group by links.sme_id
),

scopes as (
    {{ credit_scopes() }}
),

granted as (
    select
        consents.bank_id,
        consents.consent_id,
        scopes.consent_scope,
        consents.sme_id,
        consents.brn as consent_brn,
        consents.provider,
        consents.purpose,
        consents.valid_to,
        scopes.consent_scope = 'trade_declaration' as shows_trade,
        scopes.consent_scope = 'payment' as shows_payments,
        scopes.consent_scope = 'ecommerce' as shows_online,
        scopes.consent_scope = 'credit_reference' as shows_credit
    from consents
    inner join purposes on consents.purpose = purposes.purpose
    inner join scopes on {{ among('scopes.consent_scope', 'consents.scopes') }}
),

final as (
    select
        granted.bank_id,
        granted.consent_id,
        granted.consent_scope,
        granted.sme_id,
        smes.brn,
        smes.name_en,
        smes.name_zh,
        granted.consent_brn,
        granted.provider,
        granted.purpose as consent_purpose,
        granted.valid_to as consent_valid_to,
        cast(case when granted.shows_trade then coalesce(trade_totals.export_value_12m_hkd, 0) end as numeric(20, 2))
            as export_value_12m_hkd,
        cast(
            case
                when granted.shows_trade and declared.knows_prior_12m
                    then coalesce(trade_totals.export_value_prior_12m_hkd, 0)
            end as numeric(20, 2)
        ) as export_value_prior_12m_hkd,
        cast(
            case
                when granted.shows_trade and declared.knows_prior_12m and trade_totals.export_value_prior_12m_hkd > 0
                    then trade_totals.export_value_12m_hkd / trade_totals.export_value_prior_12m_hkd - 1
            end as numeric(20, 4)
        ) as export_growth,
        cast(case when granted.shows_trade then coalesce(trade_totals.import_value_12m_hkd, 0) end as numeric(20, 2))
            as import_value_12m_hkd,
        cast(case when granted.shows_trade then coalesce(trade_totals.export_month_count, 0) end as integer)
            as export_month_count,
        case when granted.shows_trade then trade_totals.last_export_month end as last_export_month,
        cast(case when granted.shows_trade then market_shares.market_hhi end as numeric(6, 4)) as market_hhi,
        cast(case when granted.shows_trade then chapter_shares.chapter_hhi end as numeric(6, 4)) as chapter_hhi,
        cast(case when granted.shows_trade then market_shares.top_market_share end as numeric(6, 4)) as top_market_share,
        cast(case when granted.shows_payments then coalesce(payments.epayment_net_12m_hkd, 0) end as numeric(20, 2))
            as epayment_net_12m_hkd,
        cast(case when granted.shows_payments then coalesce(payments.epayment_count_12m, 0) end as bigint)
            as epayment_count_12m,
        cast(case when granted.shows_payments then payments.epayment_refund_share end as numeric(6, 4))
            as epayment_refund_share,
        cast(case when granted.shows_payments then coalesce(payments.epayment_month_count, 0) end as integer)
            as epayment_month_count,
        cast(case when granted.shows_online then coalesce(online.online_net_sales_12m_hkd, 0) end as numeric(20, 2))
            as online_net_sales_12m_hkd,
        cast(case when granted.shows_online then online.online_refund_share end as numeric(6, 4)) as online_refund_share,
        cast(case when granted.shows_online then coalesce(online.online_day_count, 0) end as integer) as online_day_count,
        cast(case when granted.shows_credit then coalesce(financing.financing_request_count_24m, 0) end as bigint)
            as financing_request_count_24m,
        cast(case when granted.shows_credit then coalesce(financing.financing_approved_count_24m, 0) end as bigint)
            as financing_approved_count_24m,
        cast(case when granted.shows_credit then coalesce(financing.financing_approved_24m_hkd, 0) end as numeric(20, 2))
            as financing_approved_24m_hkd,
        cast(case when granted.shows_credit then coalesce(checks.credit_check_count_24m, 0) end as bigint)
            as credit_check_count_24m,
        cast(case when granted.shows_credit then coalesce(checks.credit_check_match_count_24m, 0) end as bigint)
            as credit_check_match_count_24m,
        open_build.as_of_date,
        open_build.last_complete_date,
        cast('what the feeds show of the enterprise' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from granted
    cross join open_build
    cross join declared
    inner join smes on granted.sme_id = smes.sme_id
    left join trade_totals on granted.sme_id = trade_totals.sme_id
    left join market_shares on granted.sme_id = market_shares.sme_id
    left join chapter_shares on granted.sme_id = chapter_shares.sme_id
    left join payments on granted.sme_id = payments.sme_id and granted.provider = payments.provider
    left join online on granted.sme_id = online.sme_id
    left join financing on granted.sme_id = financing.sme_id
    left join checks on granted.sme_id = checks.sme_id
)

select * from final
