-- One row per district of Hong Kong.
{{ code_names('district', 'district') }}
