{#- The codes of a list with their names, one row each: the whole of a dimension of codes. `column` is what marts call the code. -#}
{% macro code_names(code_list, column) -%}
with names as (
    select * from {{ ref('code_names') }} where code_list = '{{ code_list }}'
),

open_build as (
    {{ release_columns() }}
)

select
    cast(names.code as {{ dbt.type_string() }}) as {{ column }},
    cast(names.name_en as {{ dbt.type_string() }}) as name_en,
    cast(names.name_zh as {{ dbt.type_string() }}) as name_zh,
    open_build.release_no
from names
cross join open_build
{%- endmacro %}
