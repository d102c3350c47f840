-- One row per measure, group of programmes and length of the windows: what the open build estimated of funded enterprises.
{{ of_open_build('funding_outcome') }}
