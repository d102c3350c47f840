-- One row per month, trade declarations among the data or not: consents given, renewed, revoked and expired in the month, and
-- what became of the financing requests made in it. Recent requests are still open, so their outcomes are provisional. The median
-- is empty where fewer than 10 were decided.
with changes as (
    select * from {{ ref('int_consents__versioned') }} where is_current
),

-- A person may revoke a consent here before the feed tells of it.
revoked as (
    select * from {{ ref('int_consents__current') }} where revoked_at is not null
),

requests as (
    select * from {{ ref('int_financing__decided') }}
),

open_build as (
    {{ release_columns(['cdi_consents', 'cdi_financing_requests']) }}
),

consents_monthly as (
    select
        {{ month_of(hong_kong_date('status_at')) }} as month,
        scopes like '%trade_declaration%' as with_trade_declarations,
        sum(case when status = 'granted' then 1 else 0 end) as consents_given_count,
        sum(case when status = 'renewed' then 1 else 0 end) as consents_renewed_count,
        sum(case when status = 'expired' then 1 else 0 end) as consents_expired_count
    from changes
    group by {{ month_of(hong_kong_date('status_at')) }}, scopes like '%trade_declaration%'
),

revoked_monthly as (
    select
        {{ month_of(hong_kong_date('revoked_at')) }} as month,
        scopes like '%trade_declaration%' as with_trade_declarations,
        count(*) as consents_revoked_count
    from revoked
    group by {{ month_of(hong_kong_date('revoked_at')) }}, scopes like '%trade_declaration%'
),

requests_monthly as (
    select
        {{ month_of('requested_on') }} as month,
        uses_trade_declarations as with_trade_declarations,
        count(*) as request_count,
        sum(case when status = 'approved' then 1 else 0 end) as approved_count,
        sum(case when status = 'rejected' then 1 else 0 end) as rejected_count,
        sum(case when status = 'withdrawn' then 1 else 0 end) as withdrawn_count,
        sum(case when status = 'submitted' then 1 else 0 end) as open_count,
        sum(amount_requested_hkd) as amount_requested_hkd,
        sum(amount_approved_hkd) as amount_approved_hkd,
        count(days_to_decision) as decided_count,
        sum(days_to_decision) as decision_days,
        {{ median('days_to_decision') }} as median_decision_days
    from requests
    group by {{ month_of('requested_on') }}, uses_trade_declarations
),

months as (
    select
        month,
        with_trade_declarations
    from consents_monthly
    union distinct
    select
        month,
        with_trade_declarations
    from revoked_monthly
    union distinct
    select
        month,
        with_trade_declarations
    from requests_monthly
),

joined as (
    select
        months.month as activity_month,
        months.with_trade_declarations,
        cast(coalesce(consents_monthly.consents_given_count, 0) as bigint) as consents_given_count,
        cast(coalesce(consents_monthly.consents_renewed_count, 0) as bigint) as consents_renewed_count,
        cast(coalesce(revoked_monthly.consents_revoked_count, 0) as bigint) as consents_revoked_count,
        cast(coalesce(consents_monthly.consents_expired_count, 0) as bigint) as consents_expired_count,
        cast(coalesce(requests_monthly.request_count, 0) as bigint) as request_count,
        cast(coalesce(requests_monthly.approved_count, 0) as bigint) as approved_count,
        cast(coalesce(requests_monthly.rejected_count, 0) as bigint) as rejected_count,
        cast(coalesce(requests_monthly.withdrawn_count, 0) as bigint) as withdrawn_count,
        cast(coalesce(requests_monthly.open_count, 0) as bigint) as open_count,
        cast(coalesce(requests_monthly.amount_requested_hkd, 0) as numeric(20, 2)) as amount_requested_hkd,
        cast(coalesce(requests_monthly.amount_approved_hkd, 0) as numeric(20, 2)) as amount_approved_hkd,
        cast(coalesce(requests_monthly.decided_count, 0) as bigint) as decided_count,
        cast(coalesce(requests_monthly.decision_days, 0) as bigint) as decision_days,
        cast(
            {{ shown_from('requests_monthly.decided_count', 'requests_monthly.median_decision_days') }} as numeric(10, 1)
        ) as median_decision_days,
        coalesce(sum(requests_monthly.open_count) over (partition by months.month), 0) > 0
        or coalesce(open_build.last_complete_date < {{ dbt.last_day('months.month', 'month') }}, true) as is_provisional,
        coalesce(
            months.month > {{ first_month('cdi_consents') }} and months.month > {{ first_month('cdi_financing_requests') }}, false
        ) as is_fully_covered,
        open_build.last_complete_date,
        open_build.release_no
    from months
    cross join open_build
    left join consents_monthly
        on
            months.month = consents_monthly.month
            and months.with_trade_declarations = consents_monthly.with_trade_declarations
    left join revoked_monthly
        on
            months.month = revoked_monthly.month
            and months.with_trade_declarations = revoked_monthly.with_trade_declarations
    left join requests_monthly
        on
            months.month = requests_monthly.month
            and months.with_trade_declarations = requests_monthly.with_trade_declarations
),

final as (
    select
        activity_month,
        with_trade_declarations,
        consents_given_count,
        consents_renewed_count,
        consents_revoked_count,
        consents_expired_count,
        request_count,
        approved_count,
        rejected_count,
        withdrawn_count,
        open_count,
        amount_requested_hkd,
        amount_approved_hkd,
        decided_count,
        decision_days,
        median_decision_days,
        is_provisional,
        is_fully_covered,
        {{ is_quotable('is_provisional', 'is_fully_covered') }} as is_quotable,
        last_complete_date,
        cast('consents and requests that banks report through CDI' as {{ dbt.type_string() }}) as coverage_note,
        release_no
    from joined
)

select * from final
