-- One row per identifier of an enterprise in a source: which SME it is, and on what basis. All else asks only here. Persons are
-- in int_sme__persons, so that no mart shows one by accident.
{{ config(materialized='table', indexes=[{'columns': ['source', 'source_key'], 'unique': true}]) }}

with numbers as (
    select * from {{ ref('int_sme__numbered') }}
),

links as (
    select * from {{ ref('stg_ops__identity_links') }} where state = 'linked'
),

survivors as (
    select * from {{ ref('stg_ops__identity_survivors') }}
),

persons as (
    select * from {{ ref('int_sme__persons') }}
),

surviving as (
    select
        numbers.number,
        coalesce(survivors.survives_as, numbers.sme_id) as sme_id
    from numbers
    left join survivors on numbers.sme_id = survivors.sme_id
    left join persons on numbers.number = persons.number
    where persons.number is null
),

by_number as (
    select
        'number' as source,
        number as source_key,
        sme_id,
        'registration_number' as link_basis
    from surviving
),

by_entity as (
    select
        links.source,
        links.source_key,
        surviving.sme_id,
        links.basis as link_basis
    from links
    inner join surviving on links.number = surviving.number
),

final as (
    select * from by_number
    union all
    select * from by_entity
)

select * from final
