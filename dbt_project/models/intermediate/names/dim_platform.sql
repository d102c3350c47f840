-- One row per online sales platform.
{{ code_names('platform', 'platform') }}
