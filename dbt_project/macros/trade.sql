{#- The flow of a declaration line: imports by the form, exports by whether the goods were made in Hong Kong. -#}
{% macro flow_of(form_type, origin_country_code) -%}
    case
        when {{ form_type }} in ('1', '1A', '1B') then 'import'
        when {{ origin_country_code }} = '690' then 'domestic_export'
        else 're_export'
    end
{%- endmacro %}
