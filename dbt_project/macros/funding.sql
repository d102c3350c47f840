{#- One row per enterprise and time of its life: not_begun, live, ended; or not_on_register, for which no time is known. Only a
    live enterprise can apply for funding. `smes` is dim_sme. -#}
{% macro business_life(smes) -%}
    select
        sme_id,
        'not_begun' as applicant_status,
        cast('1841-01-26' as date) as lived_from,
        cast({{ dbt.dateadd('day', -1, 'commencement_date') }} as date) as lived_to
    from {{ smes }}
    where is_on_register
    union all
    select
        sme_id,
        'live' as applicant_status,
        commencement_date as lived_from,
        coalesce(cessation_date, cast('9999-12-31' as date)) as lived_to
    from {{ smes }}
    where is_on_register and commencement_date <= coalesce(cessation_date, commencement_date)
    union all
    select
        sme_id,
        'ended' as applicant_status,
        greatest(cast({{ dbt.dateadd('day', 1, 'cessation_date') }} as date), commencement_date) as lived_from,
        cast('9999-12-31' as date) as lived_to
    from {{ smes }}
    where is_on_register and cessation_date is not null
    union all
    select
        sme_id,
        'not_on_register' as applicant_status,
        cast('1841-01-26' as date) as lived_from,
        cast('9999-12-31' as date) as lived_to
    from {{ smes }}
    where not is_on_register
{%- endmacro %}

{#- What the figures of headroom do not know. -#}
{% macro headroom_note() -%}
    cast(
        'each enterprise alone: connected enterprises share one ceiling and no feed says which are; grants before history_from '
        'are missing; completed projects count as approved' as {{ dbt.type_string() }}
    )
{%- endmacro %}
