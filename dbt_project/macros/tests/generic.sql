{#- Generic tests, each a sentence about the rows it returns: none may be found. -#}

{% test unique_together(model, columns) %}
select {{ columns | join(', ') }}
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}

{% test not_negative(model, column_name) %}
select {{ column_name }} from {{ model }} where {{ column_name }} < 0
{% endtest %}

{% test holds(model, expression) %}
select 1 as broken from {{ model }} where not ({{ expression }})
{% endtest %}

{% test no_overlap(model, partition_by, from_column, to_column) %}
with ordered as (
    select
        {{ to_column }},
        {{ from_column }},
        lead({{ from_column }}) over (partition by {{ partition_by | join(', ') }} order by {{ from_column }}) as next_from
    from {{ model }}
)

select * from ordered
where {{ to_column }} < {{ from_column }} or (next_from is not null and ({{ to_column }} is null or {{ to_column }} >= next_from))
{% endtest %}
