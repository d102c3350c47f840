-- One row per kind of data: how many rows of mart_credit_features rest on it, how many of them without a live consent on the
-- release day (must be 0), and how many enterprises and banks they are about.
with features as (
    select * from {{ ref('mart_credit_features') }}
),

scopes as (
    {{ credit_scopes() }}
),

consents as (
    select * from {{ ref('int_consents__current') }} where is_live
),

purposes as (
    select * from {{ ref('stg_ops__consent_purposes') }}
),

open_build as (
    {{ release_columns(['cdi_consents']) }}
),

covered as (
    select
        consents.consent_id,
        consents.bank_id,
        consents.scopes,
        consents.sme_id
    from consents
    inner join purposes on consents.purpose = purposes.purpose
),

checked as (
    select
        features.consent_scope,
        features.sme_id,
        features.bank_id,
        covered.consent_id is not null as is_covered
    from features
    left join covered
        on
            features.consent_id = covered.consent_id
            and features.bank_id = covered.bank_id
            and features.sme_id = covered.sme_id
            and {{ among('features.consent_scope', 'covered.scopes') }}
),

final as (
    select
        scopes.consent_scope,
        count(checked.consent_scope) as row_count,
        cast(sum(case when checked.is_covered then 0 when checked.consent_scope is null then 0 else 1 end) as bigint)
            as row_without_consent_count,
        count(distinct checked.sme_id) as sme_count,
        count(distinct checked.bank_id) as bank_count,
        open_build.as_of_date,
        open_build.last_complete_date,
        cast('rows of mart_credit_features' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from scopes
    cross join open_build
    left join checked on scopes.consent_scope = checked.consent_scope
    group by scopes.consent_scope, open_build.as_of_date, open_build.last_complete_date, open_build.release_no
)

select * from final
