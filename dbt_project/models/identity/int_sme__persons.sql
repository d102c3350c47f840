-- One row per individual, who stands under one or several pseudonyms of an HKID number and is no enterprise.
{{ config(materialized='table', indexes=[{'columns': ['sme_id'], 'unique': true}]) }}

select distinct sme_id
from {{ ref('int_sme__numbered') }}
where number_kind = 'hkid_pseudonym'
