-- One row per SME, scheme and period in which neither its grants nor a rule changed, of every period since 2012 and of
-- enterprises that never applied too: `where date '2025-03-13' between valid_from and coalesce(valid_to, '9999-12-31')`.
{{ config(materialized='view') }}

with headroom as (
    select * from {{ ref('mart_funding_headroom') }}
),

rules as (
    select * from {{ ref('dim_funding_rule') }}
),

smes as (
    select * from {{ ref('dim_sme') }}
),

life as (
    {{ business_life('smes') }}
),

periods as (
    select
        rules.*,
        case
            when is_open then least(cumulative_ceiling_hkd, coalesce(in_force_cap_hkd, cumulative_ceiling_hkd))
            when not is_open then 0
        end as open_headroom_hkd
    from rules
),

lived as (
    select
        headroom.sme_id,
        headroom.funding_scheme,
        greatest(periods.valid_from, life.lived_from) as valid_from,
        case
            when periods.valid_to is null and life.lived_to = cast('9999-12-31' as date) then null
            else least(coalesce(periods.valid_to, life.lived_to), life.lived_to)
        end as valid_to,
        life.applicant_status,
        periods.is_open,
        periods.government_share_pct,
        periods.cumulative_ceiling_hkd,
        periods.in_force_cap_hkd,
        cast(case when life.applicant_status = 'live' then periods.open_headroom_hkd else 0 end as numeric(20, 2)) as headroom_hkd,
        periods.bud_general_application_cap_hkd,
        periods.bud_easy_application_cap_hkd,
        periods.bud_ecommerce_easy_application_cap_hkd,
        periods.emf_application_cap_hkd,
        headroom.history_from,
        headroom.as_of_date,
        headroom.last_complete_date,
        headroom.coverage_note,
        headroom.release_no
    from headroom
    inner join periods on headroom.funding_scheme = periods.funding_scheme
    inner join life
        on
            headroom.sme_id = life.sme_id
            and periods.valid_from <= life.lived_to
            and (periods.valid_to is null or periods.valid_to >= life.lived_from)
    where not headroom.has_applied
),

never_applied as (
    select
        lived.*,
        {{ in_force_on('lived', 'lived.as_of_date') }} as is_current,
        false as has_applied,
        0 as project_count,
        cast(0 as numeric(20, 2)) as granted_hkd,
        cast(0 as numeric(20, 2)) as in_force_hkd,
        cast(0 as numeric(20, 2)) as in_force_capped_hkd,
        {%- for kind in ['bud_general', 'bud_easy', 'bud_ecommerce_easy', 'emf'] %}
            cast(
                case
                    when {{ kind }}_application_cap_hkd is not null then least({{ kind }}_application_cap_hkd, headroom_hkd)
                end as numeric(20, 2)
            ) as {{ kind }}_headroom_hkd
            {%- if not loop.last %},{% endif %}
        {%- endfor %}
    from lived
),

final as (
    {%- set columns = [
        'sme_id', 'funding_scheme', 'valid_from', 'valid_to', 'is_current', 'has_applied', 'is_open', 'applicant_status',
        'government_share_pct', 'cumulative_ceiling_hkd', 'in_force_cap_hkd', 'project_count', 'granted_hkd', 'in_force_hkd',
        'in_force_capped_hkd', 'headroom_hkd', 'bud_general_headroom_hkd', 'bud_easy_headroom_hkd', 'bud_ecommerce_easy_headroom_hkd', 'emf_headroom_hkd',
        'history_from', 'as_of_date', 'last_complete_date', 'coverage_note', 'release_no'
    ] %}
    select
        {{ columns | join(',\n        ') }}
    from headroom
    where has_applied
    union all
    select
        {{ columns | join(',\n        ') }}
    from never_applied
)

select * from final
