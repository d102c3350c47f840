-- One row per policy and year of cover, as all reports of that year have it: the newest terms, the limit weighted by the days on
-- which each held, and whether it is in force. What is past the last day up to which policies are complete is not known.
{{ config(materialized='table', indexes=[{'columns': ['policy_no', 'cover_start_on'], 'unique': true}]) }}

with terms as (
    select
        int_insurance__terms.*,
        {{ dbt.datediff('terms_from', 'terms_to', 'day') }} + 1 as days,
        row_number() over (partition by policy_no, cover_start_on order by terms_from desc) as recency
    from {{ ref('int_insurance__terms') }}
),

open_build as (
    {{ release_columns(['hkecic_policies']) }}
),

weighted as (
    select
        terms.policy_no,
        terms.cover_start_on,
        sum(terms.max_liability_hkd * terms.days) / sum(terms.days) as max_liability_hkd,
        count(terms.premium_rate_pct) = count(*) as has_premium_rate,
        {{ any_true('least(open_build.as_of_date, open_build.last_complete_date) between terms.terms_from and terms.terms_to') }}
            as was_in_force,
        {{ any_true('open_build.as_of_date between terms.terms_from and terms.terms_to') }} as would_be_in_force,
        max(open_build.last_complete_date) as last_complete_date
    from terms
    cross join open_build
    group by terms.policy_no, terms.cover_start_on
),

final as (
    select
        terms.policy_no,
        terms.cover_start_on,
        terms.cover_end_on,
        terms.brn,
        terms.policy_type,
        terms.status,
        terms.indemnity_pct,
        weighted.max_liability_hkd,
        terms.max_liability_hkd as newest_max_liability_hkd,
        weighted.has_premium_rate,
        case
            when weighted.last_complete_date is not null and weighted.was_in_force = weighted.would_be_in_force
                then weighted.was_in_force
        end as is_in_force
    from terms
    inner join weighted on terms.policy_no = weighted.policy_no and terms.cover_start_on = weighted.cover_start_on
    where terms.recency = 1
)

select * from final
