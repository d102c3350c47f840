-- One row per certificate of a quality mark as it stands on the release day. A scope other than company covers one brand,
-- product or shop of the holder and says nothing about the rest of it.
{{ config(indexes=[{'columns': ['sme_id']}]) }}

with certificates as (
    select * from {{ ref('int_marks__current') }}
),

open_build as (
    {{ release_columns(['quality_marks']) }}
),

final as (
    select
        certificates.mark_scheme,
        certificates.certificate_no,
        certificates.issuer,
        certificates.mark_scope,
        certificates.subject,
        certificates.holder_name,
        certificates.sme_id,
        certificates.link_basis,
        certificates.platform,
        certificates.store_id,
        certificates.status as certificate_status,
        certificates.valid_from,
        certificates.valid_to,
        certificates.is_valid,
        open_build.last_complete_date,
        open_build.release_no
    from certificates
    cross join open_build
)

select * from final
