-- One row per sme_id that another stands for now.
with final as (
    select
        sme_id,
        number,
        survives_as,
        survivor_number,
        basis
    from {{ source('ops', 'identity_survivor') }}
)

select * from final
