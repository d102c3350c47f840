-- One row per purpose of a consent for which a bank may read credit features.
select purpose from {{ source('ops', 'consent_purpose') }}
