-- One row per consent that is live on the release day: whose, to which bank, for what, and how long it still holds. What a
-- bank may read now is decided when it reads, so a consent revoked since is still here and no longer read.
with consents as (
    select * from {{ ref('int_consents__current') }} where is_live
),

open_build as (
    {{ release_columns(['cdi_consents']) }}
),

final as (
    select
        consents.consent_id,
        consents.sme_id,
        consents.bank_id,
        consents.provider,
        consents.purpose as consent_purpose,
        consents.scopes as consent_scopes,
        consents.valid_from,
        consents.valid_to,
        cast({{ dbt.datediff('open_build.as_of_date', 'consents.valid_to', 'day') }} as integer) as days_left,
        open_build.as_of_date,
        open_build.last_complete_date,
        cast('consents that banks report through CDI' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from consents
    cross join open_build
)

select * from final
