{#- A predicate: whether an enterprise counts as an SME. More than 98 in 100 enterprises are SMEs, so that one of unknown size
    counts; leaving it out would err more. A person who lodges with an HKID number is not in dim_sme and does not count. -#}
{% macro counts_as_sme(is_sme) -%}
    coalesce({{ is_sme }}, true)
{%- endmacro %}

{#- Whether a brand is emerging at an event: its enterprise began to trade less than 5 years before, or is micro by the register
    now; empty where the enterprise is not on the register. `smes` is the alias of dim_sme, left joined. -#}
{% macro is_emerging(smes, first_day) -%}
    case
        when {{ smes }}.is_on_register
            then coalesce({{ smes }}.sme_class = 'micro' or {{ smes }}.commencement_date > {{ dbt.dateadd('year', -5, first_day) }}, false)
    end
{%- endmacro %}
