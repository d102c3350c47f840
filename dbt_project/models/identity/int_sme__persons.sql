-- One row per pseudonym of an individual, who is not an enterprise: several pseudonyms may be one person.
{{ config(materialized='table', indexes=[{'columns': ['number'], 'unique': true}]) }}

with numbers as (
    select * from {{ ref('int_sme__numbered') }}
),

persons as (
    select * from numbers where number_kind = 'hkid_pseudonym'
),

survivors as (
    select * from {{ ref('stg_ops__identity_survivors') }}
),

surviving as (
    select
        persons.number,
        coalesce(survivors.survives_as, persons.sme_id) as sme_id
    from persons
    left join survivors on persons.sme_id = survivors.sme_id
),

final as (
    select * from surviving
    -- Whom a person's decision made an enterprise is one.
    where sme_id in (select persons.sme_id from persons)
)

select * from final
