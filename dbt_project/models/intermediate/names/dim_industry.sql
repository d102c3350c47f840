-- One row per section of HSIC 2.0, one for what is not known and one for all of them together.
{{ code_names('industry_section', 'industry_section') }}
