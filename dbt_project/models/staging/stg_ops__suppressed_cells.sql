-- One row per cell that a published table of the build under way leaves out. Why is nobody's business: it is not here.
with final as (
    select
        table_name,
        series,
        period,
        row_key,
        column_key
    from {{ source('ops', 'suppression_known') }}
)

select * from final
