-- One row per store and day of Design Gallery whose sales the open build changed.
{{ config(materialized='view') }}

{{ changed_in_build(ref('int_gallery__versioned'), ['store', 'sale_date as day']) }}
