-- One row per certificate, change of its status and batch: every version of the history, the current one marked.
{{
    config(
        unique_key=['scheme', 'certificate_no', 'status_at'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['scheme', 'certificate_no', 'status_at']}]
    )
}}

{{
    versions('quality_marks', ref('stg_marks__quality_marks'), [
        'status', 'issuer', 'scope', 'holder_name', 'subject', 'platform', 'store_id', 'valid_from', 'valid_to'
    ])
}}
