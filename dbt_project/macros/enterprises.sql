{#- A predicate: whether an enterprise counts as an SME. More than 98 in 100 enterprises are SMEs, so that one of unknown size
    counts; leaving it out would err more. A person who lodges with an HKID number is not in dim_sme and does not count. -#}
{% macro counts_as_sme(is_sme) -%}
    coalesce({{ is_sme }}, true)
{%- endmacro %}
