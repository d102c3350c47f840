-- One row per size class of enterprises, one for individuals and one for all of them together.
{{ code_names('sme_class', 'sme_class') }}
