-- One row per edition of the HKHS (a year) and code of 8 digits, as the newest delivery of the year lists them.
{{ config(materialized='table', indexes=[{'columns': ['edition_year', 'hkhs_code'], 'unique': true}]) }}

with listed as (
    select * from {{ ref('stg_registers__hkhs_codes') }}
),

newest as (
    select
        edition_year,
        max(business_date) as business_date
    from listed
    group by edition_year
),

ranked as (
    select
        listed.*,
        row_number() over (
            partition by listed.edition_year, listed.hkhs_code order by listed.received_at desc, listed.batch_id desc
        ) as recency
    from listed
    inner join newest on listed.edition_year = newest.edition_year and listed.business_date = newest.business_date
),

final as (
    select
        edition_year,
        hkhs_code,
        description_en,
        description_zh,
        unit_en
    from ranked
    where recency = 1
)

select * from final
